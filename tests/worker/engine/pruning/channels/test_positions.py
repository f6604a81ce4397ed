"""Operators that read a dimension as a whole keep it, wherever the channels in it come from; other layers shrink."""

import torch
from torch import Tensor, nn

from tests.support.engine.pruned_networks import module, proven

IMAGE = {"image": torch.zeros(2, 3, 8, 8)}
SERIES = {"series": torch.zeros(2, 12, 16)}


def test_the_height_that_a_convolution_runs_over_stays() -> None:
    """Distribution focal loss, as YOLOv8 has it: four sides of 16 bins are the image of a convolution."""

    def forward(self: nn.Module, image: Tensor) -> Tensor:
        bins = self.b(self.a(image).relu()).flatten(2).view(-1, 4, 16, 64).transpose(1, 2)
        return self.bins(bins.softmax(1)).view(-1, 4, 64)

    a, b, bins = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 1), nn.Conv2d(16, 1, 1, bias=False)
    found = proven(module(forward, a=a, b=b, bins=bins), IMAGE)

    assert found.shapes["a.weight"] == (32, 3, 3, 3)
    assert found.shapes["b.weight"] == (64, 32, 1, 1)
    assert found.whys == {"conv2d": ("b",)}


def test_features_under_a_window_stay() -> None:
    """TextCNN: the features of words are the width of an image."""

    def forward(self: nn.Module, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.wide(self.words(ids).unsqueeze(1))).squeeze(3).amax(2))

    parts = {"words": nn.Embedding(40, 32), "wide": nn.Conv2d(1, 64, (3, 32)), "head": nn.Linear(64, 5)}
    found = proven(module(forward, **parts), {"ids": torch.zeros(2, 12, dtype=torch.int64)})

    assert found.shapes["words.weight"] == (40, 32)
    assert found.shapes["wide.weight"] == (32, 1, 3, 32)


def test_channels_that_a_transposed_convolution_slides_over_stay() -> None:
    def forward(self: nn.Module, series: Tensor) -> Tensor:
        return self.head(self.up(self.a(series).relu()).relu().mean(1))

    parts = {"a": nn.Linear(16, 32), "up": nn.ConvTranspose1d(12, 8, 2, 2), "head": nn.Linear(64, 5)}
    found = proven(module(forward, **parts), SERIES)

    assert found.shapes["a.weight"] == (32, 16)
    assert found.whys["conv_transpose1d"] == ("a",)


def test_each_channel_as_an_image_of_its_own_may_go() -> None:
    """Channels that became rows are rows of the result."""

    def forward(self: nn.Module, image: Tensor) -> Tensor:
        channels = self.a(image).relu()
        each = self.each(channels.reshape(-1, 1, 8, 8)).reshape(-1, 32, 8, 8)
        return self.head(each).mean((2, 3))

    parts = {"a": nn.Conv2d(3, 32, 1), "each": nn.Conv2d(1, 1, 3, padding=1), "head": nn.Conv2d(32, 5, 1)}
    found = proven(module(forward, **parts), IMAGE)

    assert found.shapes["a.weight"][0] == found.shapes["head.weight"][1] == 16


def test_norms_over_tokens_keep_features_that_are_their_positions() -> None:
    for norm in (nn.InstanceNorm1d(12, affine=True), nn.GroupNorm(4, 12)):

        def forward(self: nn.Module, series: Tensor) -> Tensor:
            return self.head(self.b(self.norm(self.a(series)).relu()).relu())

        parts = {"a": nn.Linear(16, 32), "norm": norm, "b": nn.Linear(32, 16), "head": nn.Linear(16, 5)}
        found = proven(module(forward, **parts), SERIES)

        assert found.shapes["a.weight"] == (32, 16)
        assert found.shapes["b.weight"] == (8, 32)
        assert list(found.whys.values()) == [("a",)]


def test_a_recurrent_layer_that_runs_over_channels_keeps_them() -> None:
    def forward(self: nn.Module, image: Tensor) -> Tensor:
        steps = self.a(image).relu().flatten(2)
        return self.head(self.recurrent(steps)[0][:, -1])

    parts = {"a": nn.Conv2d(3, 32, 5), "recurrent": nn.GRU(16, 24, batch_first=True), "head": nn.Linear(24, 5)}
    found = proven(module(forward, **parts), IMAGE)

    assert found.shapes["a.weight"] == (32, 3, 5, 5)
    assert found.shapes["recurrent.weight_hh_l0"] == (36, 12)
