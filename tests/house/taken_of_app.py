"""What the engine may take of `app`: the contract, the errors' base, and readers that need no torch.

The readers are listed for each module that takes one. What admission has understood of a file is read by the same code
afterwards, so that no second reader can understand it otherwise.
"""

from collections.abc import Iterator

from tests.house.imports import Graph
from tests.house.rooms import ENGINE

EVERYWHERE = {
    "app.spec": "the contract: what may be asked of the engine and what it answers",
    "app.errors": "the base of every error, which carries a code, a sentence and a remedy",
}
READERS = {
    "worker.engine.data.images": (
        {"app.admission.errors", "app.admission.image_folder", "app.admission.image_head", "app.admission.sniff"},
        "pictures are found in the archive and bounded by the reader that admitted the folder",
    ),
    "worker.engine.data.parquet": (
        {"app.admission.errors", "app.admission.sniff", "app.admission.text_archive"},
        "an archive of text is inflated under the bounds that it was admitted with",
    ),
    "worker.engine.torch_program.architectures": (
        {"app.admission.architectures", "app.admission.stored", "app.admission.weights"},
        "weights are found in a file by the reader that admitted it: no second one, and nothing is unpickled",
    ),
    "worker.engine.torch_program.storages": (
        {"app.admission.stored"},
        "where admission found a tensor's bytes",
    ),
    "worker.engine.torch_program.architecture_table": (
        {"app.admission.architectures"},
        "writes the table of networks that admission reads",
    ),
    "worker.engine.torch_program.keras": (
        {"app.admission"},
        "a program that a toolchain made of an upload is admitted as an uploaded one is",
    ),
    "worker.engine.targets.onnx.delivery": (
        {"app"},
        "the version of the service, which an ONNX file names as its producer",
    ),
}


def taken(graph: Graph) -> Iterator[tuple[str, str]]:
    """Every module of the engine with each module of `app` that it takes, but for those that all may."""
    for module in sorted(graph):
        if module.startswith(f"{ENGINE}."):
            yield from ((module, other) for other in sorted(graph[module]) if _needs_a_reason(other))


def allowed() -> set[tuple[str, str]]:
    """The pairs that are written down here."""
    return {(module, other) for module, (others, _) in READERS.items() for other in others}


def _needs_a_reason(module: str) -> bool:
    ours = module == "app" or module.startswith("app.")
    return ours and not any(module == free or module.startswith(f"{free}.") for free in EVERYWHERE)
