"""The `USAGE.md` beside every artifact: the few lines that load and run it, written for this very model."""

from collections.abc import Iterable

from app.spec.signature import Signature, TensorSpec
from worker.engine.data.synthetic import example_shapes

NUMPY = {"bfloat16": "float32"}
"""dtypes that numpy does not have, and what stands for them."""


def usage(title: str, files: Iterable[str], install: str, code: str, signature: Signature, *notes: str) -> str:
    """The file's text. `code` is Python that runs in the artifact's folder after `pip install <install>`."""
    tensors = [
        f"| {kind} | `{tensor.name}` | {tensor.dtype} | {_shape(tensor)} |"
        for kind, group in (("input", signature.inputs), ("output", signature.outputs))
        for tensor in group
    ]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"Files: {', '.join(f'`{name}`' for name in files)}",
            "",
            "| | name | type | shape |",
            "| --- | --- | --- | --- |",
            *tensors,
            "",
            f"    pip install {install}",
            "",
            "```python",
            code.strip(),
            "```",
            "",
            *(line for note in notes for line in (note, "")),
        ]
    )


def example_rows(signature: Signature, rows_at_once: int = 1) -> str:
    """Python source of a dictionary with so many made-up rows for each input, by name."""
    shapes = example_shapes(signature, rows_at_once)
    rows = (
        f"    {tensor.name!r}: np.zeros({shapes[tensor.name]}, np.{NUMPY.get(tensor.dtype, tensor.dtype)}),"
        for tensor in signature.inputs
    )
    return "\n".join(["rows = {", *rows, "}"])


def _shape(tensor: TensorSpec) -> str:
    return f"[{', '.join(str(size) if isinstance(size, int) else size.name for size in tensor.shape)}]"
