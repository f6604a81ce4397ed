"""torchscript: programs are compiled, run and timed by LibTorch, in Python and in C++."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.targets import TorchScriptTarget
from tests.support.engine.zoo import Recurrent, TransformerBlock, TwoInputs, program
from tests.support.networks import NAMES
from tests.support.target_jobs import Done
from worker.engine.errors import Unconvertible
from worker.engine.measure.host import Host
from worker.engine.targets.torchscript.runtime import LibTorch
from worker.engine.targets.torchscript.script import scripted
from worker.engine.torch_program.program import Program, quiet

BATCH = Dimension(name="batch", min=1, max=4096)


def test_an_export_computes_the_same(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "torchscript"}])

    target = exported.target("torchscript/x86")
    assert target.runtime.startswith("LibTorch 2.")
    (logits,) = target.parity
    assert logits.max_abs < 1e-4
    assert logits.top1_agreement == 1
    assert target.metrics[0].drop == 0
    assert (target.placement.integer, target.placement.floating) == (0, 5)
    assert "aten::batch_norm" not in target.placement.operators, "folded"
    assert any("deprecated" in note for note in target.notes)
    assert [artifact.file for artifact in exported.result.artifacts] == [
        "model-torchscript-x86.pt",
        "model-torchscript-x86.cpp.zip",
        "USAGE-torchscript-x86.md",
    ]


def test_usage_is_code_that_runs(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "torchscript"}])
    text = (exported.folder / "USAGE-torchscript-x86.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    ending = "\nprint({name: tuple(tensor.shape) for name, tensor in outputs.items()})"

    command = [sys.executable, "-I", "-W", "ignore", "-c", code + ending]
    ran = subprocess.run(command, cwd=exported.folder, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "{'logits': (1, 10)}"
    assert "deprecated" in text


@pytest.mark.parametrize("engine", ["x86", "qnnpack"])
def test_a_static_plan_runs_on_integer_kernels(engine: str, done: Callable[..., Done]) -> None:
    targets = [{"format": "torchscript", "engine": engine}, {"format": "onnx"}]
    quantized = done(steps=[{"type": "quantize.static"}], targets=targets)

    target, other = quantized.target(f"torchscript/{engine}"), quantized.target("onnx/x86")
    assert (target.placement.integer, target.placement.floating) == (5, 0)
    assert target.placement.operators["aten::quantize_per_tensor"] == 1, "codes from the first layer to the last"
    assert target.size.ratio < 0.4
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99
    assert target.metrics[0].after == pytest.approx(other.metrics[0].after, abs=0.005), "one plan, two runtimes"


def test_a_dynamic_plan_rounds_as_it_comes(of_network: Callable[..., Done]) -> None:
    quantized = of_network("small_vit", steps=[{"type": "quantize.dynamic"}], targets=[{"format": "torchscript"}])

    target = quantized.target("torchscript/x86")
    assert target.placement.integer == 9
    assert target.parity[0].sqnr_db is not None
    assert target.parity[0].sqnr_db > 20


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    (logits,) = of_network(name, targets=[{"format": "torchscript"}]).target("torchscript/x86").parity

    assert logits.max_abs < 1e-4
    assert logits.sqnr_db is None or logits.sqnr_db > 80, "None: equal to the last bit"


@pytest.mark.parametrize(
    ("network", "inputs", "outputs"),
    [
        (TransformerBlock(), {"tokens": torch.randint(0, 200, (5, 9))}, ["logits"]),
        (Recurrent(), {"series": torch.randn(5, 12, 8)}, ["logits"]),
        (TwoInputs(), {"image": torch.randn(5, 3, 16, 16), "facts": torch.randn(5, 5)}, ["score", "embedding"]),
    ],
    ids=["transformer", "lstm", "two-inputs"],
)
def test_other_families_compute_the_same_at_any_batch(
    network: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], tmp_path: Path
) -> None:
    with quiet():
        example = program(network, *(tensor[:2] for tensor in inputs.values()))
    exported = Program(example, signature(inputs, outputs))
    scripted(exported).save(str(tmp_path / "model.pt"))
    runtime = LibTorch(tmp_path / "model.pt", tmp_path / "model.pt", exported.signature, "x86", threads=1)

    for rows in (1, 5):
        feeds = {name: tensor[:rows].numpy() for name, tensor in inputs.items()}
        expected = exported(feeds)
        for name, array in runtime.run(feeds).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-5)


def test_what_torchscript_has_no_form_for_is_refused() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))

    x = torch.randn(3, 4)
    exported = Program(program(Branch(), x), signature({"x": x}, ["y"]))

    with pytest.raises(Unconvertible, match="TorchScript does not take"):
        scripted(exported)


@pytest.mark.slow
def test_a_cpp_program_builds_against_libtorch_and_computes_the_same(done: Callable[..., Done]) -> None:
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("SKIPPED targets: cmake and g++ are not installed")
    exported = done(targets=[{"format": "torchscript"}])
    folder = exported.folder
    rows = np.random.default_rng(0).random((7, 1, 8, 8), np.float32)

    program_file = built(folder, "model-torchscript-x86.cpp.zip")
    command = [program_file, "model-torchscript-x86.pt"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("logits [1, 10]"), ended.stderr
    (folder / "data").mkdir()
    rows.tofile(folder / "data" / "image.bin")
    subprocess.run([*command, "data"], cwd=folder, check=True, timeout=60)

    found = np.fromfile(folder / "data" / "logits.bin", np.float32).reshape(7, 10)
    with quiet(), torch.inference_mode():
        expected = torch.jit.load(str(folder / "model-torchscript-x86.pt"))(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_speed_on_arm_is_not_claimed_on_x86() -> None:
    assert Host("x86_64", 2).represents(TorchScriptTarget())
    assert not Host("x86_64", 2).represents(TorchScriptTarget(engine="qnnpack"))
    assert Host("aarch64", 2).represents(TorchScriptTarget(engine="qnnpack"))


def signature(inputs: dict[str, torch.Tensor], outputs: list[str]) -> Signature:
    return Signature(
        inputs=tuple(
            TensorSpec(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=(BATCH, *tensor.shape[1:]))
            for name, tensor in inputs.items()
        ),
        outputs=tuple(TensorSpec(name=name, dtype="float32", shape=(BATCH, 1)) for name in outputs),
    )


def built(folder: Path, archive: str) -> Path:
    """Build the C++ program of an archive with the LibTorch inside the installed torch."""
    zipfile.ZipFile(folder / archive).extractall(folder)
    for command in (
        ["cmake", "-S", "run_model", "-B", "build", f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"],
        ["cmake", "--build", "build"],
    ):
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "build" / "run_model"
