"""Small networks, each with something that channels must pass in its own way."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Detector(nn.Module):
    """Images [rows, 3, 32, 32] to boxes [rows, 64, 4] and scores [rows, 64, 5], as a dictionary.

    A residual backbone, a second scale that is resized and concatenated, a head for each output.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.same = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.SiLU())
        self.deeper = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.SiLU())
        self.boxes = nn.Sequential(nn.Conv2d(64, 24, 1), nn.SiLU(), nn.Conv2d(24, 4, 1))
        self.scores = nn.Sequential(nn.Conv2d(64, 24, 1), nn.SiLU(), nn.Conv2d(24, 5, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.stem(image)
        fine = self.deep(fine + self.same(fine))
        coarse = functional.interpolate(self.deeper(fine), scale_factor=2.0, mode="nearest")
        both = torch.cat([fine, coarse], 1)
        flat = {"boxes": self.boxes(both), "scores": self.scores(both)}
        return {name: values.flatten(2).transpose(1, 2) for name, values in flat.items()}


class Bert(nn.Module):
    """Token ids [rows, 16] to logits [rows, 4]: embeddings that are added, one post-norm encoder layer, a pooler.

    Written as Hugging Face writes it, with a projection each for query, key and value.
    """

    def __init__(self, hidden: int = 64, heads: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = heads
        self.words, self.places = nn.Embedding(200, hidden), nn.Embedding(16, hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.output, self.first = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.up, self.down, self.second = nn.Linear(hidden, 256), nn.Linear(256, hidden), nn.LayerNorm(hidden)
        self.pooler, self.head = nn.Linear(hidden, hidden), nn.Linear(hidden, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        query, key, value = (
            layer(hidden).view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        hidden = self.first(hidden + self.output(mixed.reshape(*hidden.shape)))
        hidden = self.second(hidden + self.down(functional.gelu(self.up(hidden))))
        return self.head(torch.tanh(self.pooler(hidden[:, 0])))


class HandWrittenAttention(nn.Module):
    """[rows, 10, 32] to [rows, 10, 3]: fused projections cut in one reshape, a softmax, products of activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(32, 3 * 8 * 4), nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        rows, steps, _ = series.shape
        query, key, value = self.qkv(series).reshape(rows, steps, 3, 8, 4).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) * 0.5).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).reshape(rows, steps, 32))


class Surroundings(nn.Module):
    """Sequences [rows, 4, 8] to logits [rows, 3]: a convolution, a recurrent layer, and a hidden layer."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **arguments: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv1d(8, 32, 3, padding=1)
        self.recurrent = kind(32, 24, batch_first=True, **arguments)
        self.after = nn.Linear(24 * (2 if self.recurrent.bidirectional else 1), 40)
        self.head = nn.Linear(40, 3)

    def forward(self, series: Tensor) -> Tensor:
        features = torch.relu(self.before(series.transpose(1, 2))).transpose(1, 2)
        return self.head(torch.relu(self.after(self.recurrent(features)[0][:, -1])))


class Images(nn.Module):
    """Images [rows, 3, 8, 8] through some layers in the middle to logits [rows, 5]."""

    def __init__(self, *middle: nn.Module, channels: int = 32) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 32, 3, padding=1), nn.Sequential(*middle)
        self.last, self.head = nn.Conv2d(channels, 32, 1), nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.last(self.middle(torch.relu(self.stem(image))))).mean((2, 3)))


class HalfShuffle(nn.Module):
    """ShuffleNet's: one half passes, the other is worked on, then their channels are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(16, 16, 1)

    def forward(self, image: Tensor) -> Tensor:
        half, other = image.chunk(2, dim=1)
        both = torch.cat([half, self.branch(other)], 1)
        rows, _, height, width = both.shape
        return both.view(rows, 2, 16, height, width).transpose(1, 2).reshape(rows, 32, height, width)


class Gated(nn.Module):
    """One half of the channels gates the other."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.glu(image, dim=1)


class Sliced(nn.Module):
    """Channels 0 to 20 and the last 8, by slices."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image[:, :20], image[:, -8:]], 1)


class Padded(nn.Module):
    """Channels of zeros before and after: a shortcut without weights."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.pad(image, (0, 0, 0, 0, 4, 4))


class Squared(nn.Module):
    """Products of activations with each other: sums over channels that no weight takes part in."""

    def forward(self, image: Tensor) -> Tensor:
        rows, channels, height, width = image.shape
        flat = torch.sigmoid(image).reshape(rows, channels, height * width)
        return (flat.transpose(1, 2) @ flat).reshape(rows, height * width, height, width)


class Sorted(nn.Module):
    """An operator without a rule."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.kthvalue(image, 5, dim=1, keepdim=True).values + image


class Tied(nn.Module):
    """Token ids [rows, 6] to scores [rows, 6, 50] by the embedding's own weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.hidden = nn.Embedding(50, 32), nn.Linear(32, 64)
        self.back, self.out = nn.Linear(64, 32), nn.Linear(32, 50, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.back(torch.relu(self.hidden(self.embedding(tokens)))))
