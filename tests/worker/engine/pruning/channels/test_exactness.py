"""The proof of exactness finds removals that are wrong, even where a model's own weights or rounding hide them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import as_program
from worker.engine.pruning.channels.analysis import Channels, analyse
from worker.engine.pruning.channels.errors import NotExact
from worker.engine.pruning.channels.exactness import Proof, require_exact
from worker.engine.pruning.channels.randomised import telling_inputs
from worker.engine.pruning.channels.removal import removed
from worker.engine.torch_program.program import Program

TOKENS = {"tokens": torch.zeros(2, 6, dtype=torch.int64)}


class Scored(nn.Module):
    """Token ids [rows, 6] to scores [rows, 6, 12], or to what is decided by them."""

    def __init__(self, decided: str = "scores", head: str = "random", *, hidden: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decided = decided
        self.words, self.hidden, self.head = nn.Embedding(50, 16), nn.Linear(16, hidden), nn.Linear(hidden, 12)
        if head == "zero":
            nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor | dict[str, Tensor]:
        scores = self.head(torch.relu(self.hidden(self.words(tokens))))
        if self.decided == "class":
            return scores.argmax(-1)
        if self.decided == "best":
            best = scores.topk(3, dim=-1)
            return {"values": torch.gather(scores, 2, best.indices), "places": best.indices}
        return scores


OUTPUTS = {"scores": ("scores",), "class": ("class",), "best": ("values", "places")}


HEADS = ("random", "zero")
Programs = Mapping[tuple[str, str], Program]
"""By what is returned, and what the head's weights are."""


@pytest.fixture(scope="module")
def programs() -> Programs:
    return {
        (decided, head): as_program(Scored(decided, head=head), TOKENS, OUTPUTS[decided])
        for decided in OUTPUTS
        for head in HEADS
    }


def half_of_the_hidden_units(channels: Channels, first: int = 0) -> np.ndarray:
    pruned_mask = np.zeros(len(channels.classes), bool)
    pruned_mask[next(group for group in channels.groups if group.name == "hidden").classes[first : first + 16]] = True
    return pruned_mask


def out_of_step(channels: Channels) -> Channels:
    """As if the analysis took the head's inputs to be one further than they are."""
    outputs, inputs = channels.parameters["head.weight"]
    return replace(channels, parameters={**channels.parameters, "head.weight": (outputs, np.roll(inputs, 1))})


def proven(channels: Channels, smaller: Program | None = None) -> Proof:
    pruned_mask = half_of_the_hidden_units(channels)
    return require_exact(channels, pruned_mask, smaller or channels.program.rebuilt(removed(channels, pruned_mask)))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("decided", OUTPUTS)
def test_a_right_removal_is_proven_with_an_effect_in_which_errors_show(
    programs: Programs, decided: str, head: str
) -> None:
    proof = proven(analyse(programs[decided, head]))

    assert (proof.effect == 0) == (head == "zero")
    assert proof.random_effect is not None
    assert proof.difference < 1e-5 < 0.01 < proof.random_effect


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("decided", OUTPUTS)
def test_dimensions_that_are_out_of_step_are_found(programs: Programs, decided: str, head: str) -> None:
    with pytest.raises(NotExact, match=r"(Output|Value) .* differs"):
        proven(out_of_step(analyse(programs[decided, head])))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("decided", OUTPUTS)
def test_other_channels_than_those_chosen_are_found(programs: Programs, decided: str, head: str) -> None:
    channels = analyse(programs[decided, head])
    others = channels.program.rebuilt(removed(channels, half_of_the_hidden_units(channels, first=1)))

    with pytest.raises(NotExact, match=r"Parameter hidden\.\w+ of the smaller model is not"):
        proven(channels, others)


def test_another_decision_from_the_same_values_is_found(programs: Programs) -> None:
    """One whole number in 72 is enough."""
    channels = analyse(programs["class", "random"])
    module = removed(channels, half_of_the_hidden_units(channels))
    decided = next(node for node in module.graph.nodes if "argmax" in node.name)
    with module.graph.inserting_after(decided):
        capped = module.graph.call_function(torch.ops.aten.clamp.default, (decided, None, 10))
    decided.replace_all_uses_with(capped, delete_user_cb=lambda user: user is not capped)
    module.recompile()

    with pytest.raises(NotExact, match=r"Output class differs in \d.*% of its values; it must be the same"):
        proven(channels, channels.program.rebuilt(module))


def test_near_ties_do_not_pass_for_errors() -> None:
    """All twelve scores are almost the same sums: rounding decides which are the largest."""
    network = Scored("best", hidden=800)
    with torch.no_grad():
        network.head.weight[:] = network.head.weight[0] * (1 + 1e-6 * torch.rand(12, 800))
        network.head.bias[:] = 0

    assert proven(analyse(as_program(network, TOKENS, OUTPUTS["best"]))).difference < 1e-5


def test_channels_that_reach_no_output_are_told_from_those_that_weights_hide() -> None:
    class Idle(Scored):
        def forward(self, tokens: Tensor) -> Tensor:
            return self.words(tokens).sum(-1) + 0 * super().forward(tokens).sum(-1)

    proof = proven(analyse(as_program(Idle(), TOKENS)))

    assert proof.effect == proof.random_effect == 0


def test_indices_are_drawn_from_all_rows_that_every_reader_has() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.kinds, self.few = nn.Embedding(1000, 4), nn.Embedding(3, 4), nn.Embedding(7, 4)

        def forward(self, words: Tensor, kinds: Tensor, moved: Tensor, mask: Tensor) -> Tensor:
            seen = self.words(words) * (words != 0).unsqueeze(-1) * mask.unsqueeze(-1)
            return seen + self.kinds(kinds[:, :6].to(torch.int64)) + self.few(kinds) + self.words(moved + 900)

    ids = torch.zeros(2, 6, dtype=torch.int64)
    program = as_program(Read(), {name: ids.clone() for name in ("words", "kinds", "moved", "mask")})
    largest = {name: int(values.max()) for name, values in telling_inputs(program, seed=0).items()}

    assert 500 < largest["words"] < 1000
    assert largest["kinds"] == 2
    assert largest["moved"] == largest["mask"] == 1
