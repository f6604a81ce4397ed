"""Networks by name: the table admission has of them, uploaded weights, and students made anew."""

import gzip
import importlib.metadata
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from app.admission import admit_model
from app.admission.architectures import TABLE, names, torchvision_version
from app.spec.architecture import Architecture
from app.spec.signature import Dimension
from app.spec.work import ModelFile
from tests.support.engine.orders import signature_of
from worker.engine.errors import LoadFailed
from worker.engine.model import open_model
from worker.engine.torch_program import architecture_table
from worker.engine.torch_program.architectures import build, construct, load_weights, torchvision
from worker.engine.torch_program.program import Program

GIB = 1 << 30
Save = Callable[[dict[str, Tensor], Path], object]


def declared(name: str, side: int = 32, **kwargs: Any) -> Architecture:
    given = {"num_classes": 10, **kwargs}
    return Architecture.model_validate(
        {"architecture": f"torchvision:{name}", "kwargs": given, "input": {"name": "picture", "shape": [3, side, side]}}
    )


def before_16(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def loaded(weights: Path, architecture: Architecture) -> Program:
    admit_model(weights, max_inflated_bytes=GIB, architecture=architecture)
    return load_weights(architecture, weights)


def random_network(architecture: Architecture) -> torch.nn.Module:
    """The network with every parameter and buffer moved at random, so that none of them can be missed."""
    module = construct(architecture)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and "relative_" not in name:
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.1 * float(tensor.abs().mean() + 0.1))
    return module


def require_same(program: Program, module: torch.nn.Module, side: int, rows: int) -> None:
    pictures = torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(rows))
    scores = torch.from_numpy(program({"picture": pictures.numpy()})["logits"])
    expected = module(pictures)
    assert expected.std() > 1e-4
    assert torch.allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_the_table_is_of_the_torchvision_that_is_pinned() -> None:
    assert torchvision_version() == importlib.metadata.version("torchvision").partition("+")[0]
    assert list(names()) == architecture_table.names()


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_b_32", "googlenet", "convnext_tiny", "swin_v2_t", "regnet_x_400mf", "densenet121"]
)
def test_the_table_says_what_torchvision_makes(name: str) -> None:
    lines = gzip.decompress(TABLE.read_bytes()).decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f'{{"name":"{name}"')]

    assert json.loads(line) == json.loads(json.dumps(architecture_table.entry(name)))


@pytest.mark.parametrize("save", [save_file, torch.save, before_16], ids=["safetensors", "pth", "pth before 1.6"])
@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("mobilenet_v3_small", 40), ("vit_b_32", 64)])
def test_uploaded_weights_compute_what_the_network_does(tmp_path: Path, save: Save, name: str, side: int) -> None:
    architecture = declared(name, side)
    module = random_network(architecture)
    save(module.state_dict(), tmp_path / "weights")

    program = loaded(tmp_path / "weights", architecture)

    require_same(program, module, side, rows=1)
    require_same(program, module, side, rows=5)


def test_a_job_opens_weights_as_a_model_that_can_be_changed_and_exported(tmp_path: Path) -> None:
    architecture = declared("resnet18")
    save_file(random_network(architecture).state_dict(), tmp_path / "weights")
    info = admit_model(tmp_path / "weights", max_inflated_bytes=GIB, architecture=architecture)
    upload = ModelFile(path="weights", sha256="a" * 64, bytes=(tmp_path / "weights").stat().st_size, info=info)

    model = open_model(upload, tmp_path, tmp_path / "scratch", threads=1)

    (image,), (scores,) = signature_of(model.graph).inputs, signature_of(model.graph).outputs
    assert isinstance(image.shape[0], Dimension)
    assert (image.name, image.shape[1:]) == ("picture", (3, 32, 32))
    assert (scores.name, scores.shape) == ("logits", (image.shape[0], 10))
    assert model.signature == info.signature
    assert info.parameters == sum(parameter.numel() for parameter in model.program.graph_module().parameters())


def test_views_halves_and_missing_counters_are_read_as_they_are(tmp_path: Path) -> None:
    architecture = declared("mobilenet_v3_small")
    module = random_network(architecture)
    state = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    state["classifier.0.weight"] = state["classifier.0.weight"].T.contiguous().T  # column by column
    padded = torch.full((20, 1024), 9.0)
    padded[5:15] = state["classifier.3.weight"]
    state["classifier.3.weight"] = padded[5:15]  # in the middle of a larger storage
    state["classifier.3.bias"] = state["classifier.3.bias"].to(torch.bfloat16)
    torch.save(state, tmp_path / "weights")

    program = loaded(tmp_path / "weights", architecture)

    module.classifier[3].bias.data = module.classifier[3].bias.to(torch.bfloat16).float()
    require_same(program, module, 32, rows=2)


def test_heads_that_only_train_may_be_in_the_file(tmp_path: Path) -> None:
    architecture = declared("googlenet")
    whole = torchvision().models.googlenet(num_classes=10, init_weights=False, aux_logits=True).eval()
    assert any(name.startswith("aux1.") for name in whole.state_dict())
    save_file(whole.state_dict(), tmp_path / "weights")

    require_same(loaded(tmp_path / "weights", architecture), whole, 32, rows=2)


def test_densenet_may_have_the_names_it_had_before_torch_04(tmp_path: Path) -> None:
    """As in the files that torchvision publishes: norm.1 instead of norm1."""
    architecture = declared("densenet121")
    module = random_network(architecture)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor
        for name, tensor in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    save_file(old, tmp_path / "weights")

    require_same(loaded(tmp_path / "weights", architecture), module, 32, rows=2)


def test_weights_that_are_not_numbers_are_refused_by_name(tmp_path: Path) -> None:
    architecture = declared("squeezenet1_1")
    state = construct(architecture).state_dict()
    state["classifier.1.bias"][3] = float("nan")
    save_file(state, tmp_path / "weights")

    with pytest.raises(LoadFailed, match=r"'classifier\.1\.bias' \(float32\) holds NaN"):
        loaded(tmp_path / "weights", architecture)


def test_a_fresh_network_depends_on_the_seed_alone() -> None:
    architecture = declared("squeezenet1_1", dropout=0.2)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, again, other = (build(architecture, seed) for seed in (3, 3, 4))

    weights = [program.exported.state_dict["classifier.1.weight"] for program in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [tensor.name for tensor in one.signature.inputs + one.signature.outputs] == ["picture", "logits"]
    assert all(parameter.requires_grad for parameter in one.graph_module().parameters())
    dropout = next(node for node in one.graph_module().graph.nodes if "dropout" in str(node.target))
    assert dropout.args[1:] == (0.2, False)
