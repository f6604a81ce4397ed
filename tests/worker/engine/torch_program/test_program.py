"""Programs are taken apart, changed, exported again and saved without anything of their author's."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from app.admission import admit_model
from app.spec.signature import Signature, TensorSpec
from tests.support.engine import zoo
from tests.support.engine.two_inputs import BATCH, SIGNATURE, rows
from worker.engine.torch_program.errors import ReexportFailed
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program


@pytest.fixture
def program() -> Program:
    """Two inputs, a dictionary of outputs; named otherwise than in its own graph."""
    return Program(zoo.program(zoo.TwoInputs(), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5)), SIGNATURE)


def test_a_rebuilt_program_computes_the_same_at_any_batch(program: Program) -> None:
    rebuilt = program.rebuilt(program.graph_module())

    for count in (1, 2, 7):
        before, after = program(rows(count)), rebuilt(rows(count))
        assert list(after) == ["first", "second"]
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])


def test_a_change_to_the_copy_leaves_the_program_alone(program: Program) -> None:
    before = program(rows(2))
    module = program.graph_module()
    with torch.no_grad():
        module.get_parameter("mix.weight").zero_()

    np.testing.assert_array_equal(program(rows(2))["second"], before["second"])
    assert not np.array_equal(program.rebuilt(module)(rows(2))["second"], before["second"])


def test_a_batch_that_was_baked_in_is_found(program: Program) -> None:
    module = program.graph_module()
    output = module.graph.output_node()
    first = next(node for node in output.all_input_nodes)
    with module.graph.inserting_before(output):
        fixed = module.graph.call_function(torch.ops.aten.view.default, (first, [3, -1]))
    first.replace_all_uses_with(fixed, delete_user_cb=lambda user: user is output)
    module.recompile()

    with pytest.raises(ReexportFailed):
        program.rebuilt(module)


def test_input_nodes_and_arguments_are_in_call_order(program: Program) -> None:
    module = program.graph_module()
    nodes = program.input_nodes(module)
    assert [(name, node.name) for name, node in nodes.items()] == [("photo", "image"), ("table", "facts")]

    inputs = {name: torch.from_numpy(array) for name, array in rows(2).items()}
    interpreted = fx.Interpreter(module).run(*program.arguments(inputs), enable_io_processing=False)
    expected = program(rows(2))
    for leaf, name in zip(torch.utils._pytree.tree_leaves(interpreted), expected, strict=True):
        np.testing.assert_array_equal(leaf.numpy(force=True), expected[name])


def test_a_saved_program_holds_no_rows_and_no_paths(tmp_path: Path) -> None:
    secret = torch.full((2, 5), 0.1234567)
    exported = zoo.program(zoo.TwoInputs(), torch.zeros(2, 3, 16, 16), secret)
    torch.export.save(exported, tmp_path / "theirs.pt2")
    assert found_in(tmp_path / "theirs.pt2", secret.numpy().tobytes()), "torch no longer keeps the rows"
    assert found_in(tmp_path / "theirs.pt2", b"zoo.py")

    Program(exported, SIGNATURE).save(tmp_path / "ours.pt2")

    assert not found_in(tmp_path / "ours.pt2", secret.numpy().tobytes())
    assert not found_in(tmp_path / "ours.pt2", b"zoo.py")
    assert (tmp_path / "ours.pt2").stat().st_size < (tmp_path / "theirs.pt2").stat().st_size
    admitted = admit_model(tmp_path / "ours.pt2", max_inflated_bytes=1 << 30)
    assert admitted.parameters == sum(parameter.numel() for parameter in exported.parameters())


class Pair(zoo.TwoInputs):
    """Returns its outputs without keys, which would be their names."""

    def forward(self, image: Tensor, facts: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(super().forward(image, facts).values())


@pytest.mark.parametrize("names", [("photo", "table", "first", "second"), ("relu", "conv2d", "facts", "linear")])
def test_a_saved_program_has_the_names_of_the_contract(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Also names that other nodes of its graph have."""
    program = Program(zoo.program(Pair(), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5)), SIGNATURE)
    specs = SIGNATURE.inputs + SIGNATURE.outputs
    renamed = [spec.model_copy(update={"name": name}) for spec, name in zip(specs, names, strict=True)]
    signature = Signature(inputs=tuple(renamed[:2]), outputs=tuple(renamed[2:]))
    given = dict(zip(names[:2], rows(3).values(), strict=True))

    Program(program.exported, signature).save(tmp_path / "named.pt2")
    info = admit_model(tmp_path / "named.pt2", max_inflated_bytes=1 << 30)
    again = load_program(tmp_path / "named.pt2", info.signature, tmp_path)

    assert tuple(tensor.name for tensor in info.signature.inputs + info.signature.outputs) == names
    for name, before in zip(names[2:], program(rows(3)).values(), strict=True):
        np.testing.assert_array_equal(again(given)[name], before)
    assert program.rebuilt(program.graph_module()).signature == SIGNATURE


def found_in(archive: Path, octets: bytes) -> bool:
    with zipfile.ZipFile(archive) as members:
        return any(octets in members.read(name) for name in members.namelist())


def test_a_program_whose_input_is_called_like_a_builtin_is_saved_after_a_change(tmp_path: Path) -> None:
    """`nn.Sequential` calls it "input", and a copy of such a graph "input_1"."""
    network = torch.nn.Sequential(torch.nn.Linear(5, 3))
    signature = Signature(
        inputs=(TensorSpec(name="table", dtype="float32", shape=(BATCH, 5)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, 3)),),
    )
    program = Program(zoo.program(network, torch.zeros(2, 5)), signature)
    changed = program.rebuilt(program.graph_module())

    changed.save(tmp_path / "changed.pt2")

    assert "table" in {node.name for node in torch.export.load(tmp_path / "changed.pt2").graph.nodes}
