"""Pooling, resizing and padding of images: channels pass, positions stay."""

from worker.engine.pruning.channels.call import Call, NoRule, Value
from worker.engine.pruning.channels.channel_classes import frozen
from worker.engine.pruning.channels.rules.base import Rule, by_operator

SLIDES = "it slides over them"


def window(call: Call) -> Value:
    """The name ends in the number of spatial dimensions."""
    dims = call.labels("input") if call.takes("input") else call.labels("self")
    name = call.kind
    spatial = next(int(name[at - 1]) for at in range(len(name), 0, -1) if name[at - 1 : at + 1] in {"1d", "2d", "3d"})
    call.freeze(SLIDES, *dims[-spatial:])
    pooled = (*dims[:-spatial], *(frozen(size) for size in call.shape[-spatial:]))
    return call.result(*[pooled] * len(call.results))


def pad(call: Call) -> Value:
    """A dimension that is padded stays whole."""
    dims = call.labels("self")
    amounts = call["pad"] if call.takes("pad") else call["padding"]
    padded = {len(dims) - 1 - place // 2 for place, amount in enumerate(amounts) if amount != 0}
    call.freeze("it pads them", *(dims[axis] for axis in padded))
    return tuple(frozen(call.shape[axis]) if axis in padded else labels for axis, labels in enumerate(dims))


def pixel_shuffle(call: Call) -> Value:
    """Blocks of channels become pixels of one: a block goes as a whole."""
    dims, block = call.labels("self"), call.integer("upscale_factor") ** 2
    call.freeze(SLIDES, *dims[-2:])
    members = dims[-3].reshape(-1, block)
    call.classes.union(members, members[:, :1])
    return (*dims[:-3], members[:, 0], *(frozen(size) for size in call.shape[-2:]))


def pixel_unshuffle(call: Call) -> Value:
    """Pixels of a channel become a block of channels."""
    dims, block = call.labels("self"), call.integer("downscale_factor") ** 2
    call.freeze(SLIDES, *dims[-2:])
    return (*dims[:-3], dims[-3].repeat(block), *(frozen(size) for size in call.shape[-2:]))


def channel_shuffle(call: Call) -> Value:
    """Groups are interleaved: the same position goes in each, so that they keep the same size."""
    dims, groups = call.labels("self"), call.integer("groups")
    if len(dims[1]) % groups:
        raise NoRule("groups of unequal size")
    members = dims[1].reshape(groups, -1)
    call.classes.union(members, members[:1])
    return (dims[0], members.T.ravel(), *dims[2:])


RULES: dict[str, Rule] = by_operator(
    {
        """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices
    max_pool2d_with_indices max_pool3d_with_indices upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa""": window,
        """pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d""": pad,
        "pixel_shuffle": pixel_shuffle,
        "pixel_unshuffle": pixel_unshuffle,
        "channel_shuffle": channel_shuffle,
    }
)
