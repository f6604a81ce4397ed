"""Operators: what is tied and what is frozen, each by a small network that is halved and compared with the masked."""

import pytest
import torch
from torch import nn

from tests.support.engine import blocks, zoo
from tests.support.engine.pruned_networks import Halved, as_program, halved
from worker.engine.torch_program.program import Program

IMAGE = {"image": torch.zeros(2, 3, 8, 8)}
SERIES = {"series": torch.zeros(2, 4, 8)}


def images(*middle: nn.Module, channels: int = 32) -> Program:
    torch.manual_seed(0)
    network = blocks.Images(*middle, channels=channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d | nn.PReLU):
            for parameter in module.parameters():
                nn.init.uniform_(parameter, 0.5, 1.5)
    return as_program(network, IMAGE)


def shapes(found: Halved) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in found.smaller.exported.state_dict.items()}


def require_exact(found: Halved) -> None:
    assert found.difference < 1e-5 < 0.01 < found.effect


@pytest.mark.parametrize(
    ("middle", "channels", "expected"),
    [
        ([nn.Conv2d(32, 64, 3, groups=32), nn.BatchNorm2d(64)], 64, {"middle.0.weight": (32, 1, 3, 3)}),
        ([nn.Conv2d(32, 64, 3, groups=8)], 64, {"middle.0.weight": (32, 4, 3, 3), "stem.weight": (16, 3, 3, 3)}),
        ([nn.ConvTranspose2d(32, 24, 2, stride=2)], 24, {"middle.0.weight": (16, 12, 2, 2)}),
        ([nn.ConvTranspose2d(32, 16, 2, stride=2, groups=8)], 16, {"middle.0.weight": (16, 2, 2, 2)}),
        ([nn.Conv2d(32, 48, 3), nn.GroupNorm(6, 48)], 48, {"middle.0.weight": (24, 16, 3, 3)}),
        ([nn.InstanceNorm2d(32, affine=True), nn.PReLU(32)], 32, {"middle.1.weight": (16,)}),
        ([nn.Conv2d(32, 64, 1), nn.PixelShuffle(2)], 16, {"middle.0.weight": (32, 16, 1, 1)}),
        ([nn.PixelUnshuffle(2)], 128, {"last.weight": (16, 64, 1, 1)}),
        ([nn.ChannelShuffle(4)], 32, {"stem.weight": (16, 3, 3, 3)}),
        ([blocks.HalfShuffle()], 32, {"middle.0.branch.weight": (8, 8, 1, 1)}),
        ([blocks.Gated()], 16, {"stem.weight": (16, 3, 3, 3), "last.weight": (16, 8, 1, 1)}),
        ([blocks.Sliced()], 28, {"stem.weight": (16, 3, 3, 3)}),
        ([nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Dropout()], 32, {"stem.weight": (16, 3, 3, 3)}),
    ],
)
def test_layers_that_channels_pass(middle: list[nn.Module], channels: int, expected: dict[str, tuple]) -> None:
    found = halved(images(*middle, channels=channels))

    require_exact(found)
    assert found.channels.frozen_operators == {}
    assert {name: shapes(found)[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("middle", "channels"),
    [
        ([nn.GroupNorm(1, 32)], 32),
        ([nn.Softmax(1)], 32),
        ([blocks.Padded()], 40),
        ([blocks.Squared()], 64),
        ([blocks.Sorted()], 32),
    ],
)
def test_layers_that_channels_do_not_pass(middle: list[nn.Module], channels: int) -> None:
    """The channels before them stay whole; those behind them do not."""
    found = halved(images(*middle, channels=channels))

    require_exact(found)
    assert shapes(found)["stem.weight"] == (32, 3, 3, 3)
    assert shapes(found)["last.weight"] == (16, channels, 1, 1)


def test_an_operator_without_a_rule_is_reported_where_it_keeps_channels() -> None:
    """The second meets only what the first kept already."""
    found = halved(images(blocks.Sorted(), blocks.Sorted()))

    assert found.channels.frozen_operators == {"kthvalue": 1}


def test_two_heads_share_what_feeds_both() -> None:
    found = halved(as_program(blocks.Detector(), {"image": torch.zeros(2, 3, 32, 32)}, ("boxes", "scores")))

    require_exact(found)
    names = [(group.layers, group.channels) for group in found.channels.groups]
    assert names == [
        (("stem.0", "same.0"), 16),
        (("deep.0",), 32),
        (("deeper.0",), 32),
        (("boxes.0",), 24),
        (("scores.0",), 24),
    ]
    assert shapes(found)["boxes.0.weight"] == (12, 32, 1, 1)
    assert found.parameters_left < 0.3


def test_heads_and_hidden_units_of_a_bert_layer_go_and_its_residual_width_stays() -> None:
    found = halved(as_program(blocks.Bert(), {"tokens": torch.zeros(2, 16, dtype=torch.int64)}))

    require_exact(found)
    assert shapes(found)["query.weight"] == shapes(found)["value.weight"] == (32, 64)
    assert shapes(found)["output.weight"] == (64, 32)
    assert shapes(found)["up.weight"] == (128, 64)
    assert shapes(found)["pooler.weight"] == (32, 64)
    assert shapes(found)["words.weight"] == (200, 64)
    heads = next(group for group in found.channels.groups if group.name == "query")
    assert (len(heads.classes), heads.width, heads.layers) == (4, 16, ("query", "key", "value"))


def test_attention_written_by_hand_loses_heads() -> None:
    found = halved(as_program(blocks.HandWrittenAttention(), {"series": torch.zeros(2, 10, 32)}))

    require_exact(found)
    assert shapes(found)["qkv.weight"] == (48, 32)
    assert shapes(found)["out.weight"] == (3, 16)


def test_the_encoder_of_pytorch_loses_heads() -> None:
    found = halved(as_program(zoo.TransformerBlock(), {"tokens": torch.zeros(2, 16, dtype=torch.int64)}))

    require_exact(found)
    assert shapes(found)["encoder.layers.1.self_attn.in_proj_weight"] == (96, 64)
    assert shapes(found)["encoder.layers.1.linear1.weight"] == (128, 64)


@pytest.mark.parametrize(
    ("kind", "gates", "arguments"),
    [
        (nn.LSTM, 4, {}),
        (nn.LSTM, 4, {"bidirectional": True, "num_layers": 2}),
        (nn.GRU, 3, {"num_layers": 2}),
        (nn.RNN, 1, {"bidirectional": True, "bias": False}),
    ],
)
def test_recurrent_layers_lose_hidden_units_and_their_surroundings_channels(
    kind: type[nn.RNNBase], gates: int, arguments: dict[str, object]
) -> None:
    found = halved(as_program(blocks.Surroundings(kind, **arguments), SERIES))

    require_exact(found)
    directions = 2 if arguments.get("bidirectional") else 1
    assert shapes(found)["before.weight"] == (16, 8, 3)
    assert shapes(found)["recurrent.weight_ih_l0"] == (gates * 12, 16)
    assert shapes(found)["recurrent.weight_hh_l0"] == (gates * 12, 12)
    assert shapes(found)["after.weight"] == (20, 12 * directions)


def test_tied_weights_stay_tied() -> None:
    found = halved(as_program(blocks.Tied(), {"tokens": torch.zeros(2, 6, dtype=torch.int64)}, ("scores",)))

    require_exact(found)
    assert shapes(found)["embedding.weight"] == (50, 16)
    assert shapes(found)["hidden.weight"] == (32, 16)
    assert found.parameters_left < 0.4
