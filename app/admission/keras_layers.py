"""Layers of Keras that are read: what each makes of its inputs' shapes, and how many weights it has.

The table is also the list of what may be made of an upload: a layer that is not in it is refused, and so nothing that
reads files, fetches them or holds code is ever handed to Keras. Source: https://keras.io/api/layers.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from app.admission.errors import Broken

Shape = tuple[int | None, ...]
"""With the batch first; None: varies."""
Config = dict[str, Any]
Made = tuple[Shape, int]
"""A layer's output, and the elements of its weights."""
Rule = Callable[[Config, Sequence[Shape]], Made]


def _same(_: Config, shapes: Sequence[Shape]) -> Made:
    return shapes[0], 0


def _number(config: Config, name: str, default: int | None = None) -> int:
    value = config.get(name, default)
    if type(value) is not int or not 0 <= value < 2**31:
        raise Broken(f"{name!r} of a layer is no size")
    return value


def _numbers(config: Config, name: str, rank: int, default: int = 1) -> tuple[int, ...]:
    """One number for each axis; Keras takes a single one for all."""
    value = config.get(name) or default
    given = [value] * rank if isinstance(value, int) else value
    if not isinstance(given, list) or len(given) != rank:
        raise Broken(f"{name!r} of a layer does not have {rank} numbers")
    return tuple(_number({name: number}, name) for number in given)


def _known(size: int | None) -> int:
    if size is None:
        raise Broken("a layer's weights are tied to a size that varies")
    return size


def _split(config: Config, shape: Shape) -> tuple[tuple[int | None, ...], int | None]:
    """The axes between batch and channels, and the channels."""
    if len(shape) < 3:
        raise Broken("a layer's input has too few axes")
    return (shape[2:], shape[1]) if config.get("data_format") == "channels_first" else (shape[1:-1], shape[-1])


def _joined(config: Config, batch: int | None, sizes: Sequence[int | None], channels: int | None) -> Shape:
    first = config.get("data_format") == "channels_first"
    return (batch, channels, *sizes) if first else (batch, *sizes, channels)


def _windows(config: Config, sizes: Sequence[int | None], kernel: str, default_stride: str | None) -> list[int | None]:
    rank = len(sizes)
    window = _numbers(config, kernel, rank, 2)
    strides = window if default_stride and not config.get("strides") else _numbers(config, "strides", rank)
    dilation, padding = _numbers(config, "dilation_rate", rank), config.get("padding", "valid")
    outputs: list[int | None] = []
    for size, width, stride, spread in zip(sizes, window, strides, dilation, strict=True):
        reach = (width - 1) * spread if padding == "valid" else 0
        left = None if size is None else size - reach
        if stride < 1 or (left is not None and left < 1):
            raise Broken("a layer's window does not fit its input")
        outputs.append(None if left is None else (left - 1) // stride + 1)
    return outputs


def _biases(config: Config, count: int) -> int:
    return count if config.get("use_bias", True) else 0


def _conv(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    filters, groups = _number(config, "filters"), max(1, _number(config, "groups", 1))
    weights = prod(_numbers(config, "kernel_size", len(sizes))) * (_known(channels) // groups) * filters
    made = _joined(config, shapes[0][0], _windows(config, sizes, "kernel_size", None), filters)
    return made, weights + _biases(config, filters)


def _depthwise(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    filters = _known(channels) * _number(config, "depth_multiplier", 1)
    made = _joined(config, shapes[0][0], _windows(config, sizes, "kernel_size", None), filters)
    return made, prod(_numbers(config, "kernel_size", len(sizes))) * filters + _biases(config, filters)


def _separable(config: Config, shapes: Sequence[Shape]) -> Made:
    made, depthwise = _depthwise({**config, "use_bias": False}, shapes)
    sizes, between = _split(config, made)
    filters = _number(config, "filters")
    return _joined(config, made[0], sizes, filters), depthwise + _known(between) * filters + _biases(config, filters)


def _transposed(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    filters, rank = _number(config, "filters"), len(sizes)
    window, strides = _numbers(config, "kernel_size", rank), _numbers(config, "strides", rank)
    if config.get("output_padding") is not None or set(_numbers(config, "dilation_rate", rank)) != {1}:
        raise Broken("a transposed convolution has an output padding or a dilation, which is not read")
    valid = config.get("padding", "valid") == "valid"
    made = [
        None if size is None else size * stride + (max(width - stride, 0) if valid else 0)
        for size, width, stride in zip(sizes, window, strides, strict=True)
    ]
    weights = prod(window) * _known(channels) * filters + _biases(config, filters)
    return _joined(config, shapes[0][0], made, filters), weights


def _pool(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    return _joined(config, shapes[0][0], _windows(config, sizes, "pool_size", "pool_size"), channels), 0


def _global_pool(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    if config.get("keepdims"):
        return _joined(config, shapes[0][0], [1] * len(sizes), channels), 0
    return (shapes[0][0], channels), 0


def _pairs(config: Config, name: str, rank: int) -> list[tuple[int, int]]:
    value = config.get(name)
    if isinstance(value, int):
        return [(value, value)] * rank
    if rank == 1 and isinstance(value, list) and all(isinstance(entry, int) for entry in value):
        value = [value]
    if not isinstance(value, list) or len(value) != rank:
        raise Broken(f"{name!r} of a layer does not have {rank} entries")
    pairs = [[entry, entry] if isinstance(entry, int) else entry for entry in value]
    first, second = ([_numbers({name: pair}, name, 2, 0)[side] for pair in pairs] for side in (0, 1))
    return list(zip(first, second, strict=True))


def _padded(name: str, sign: int) -> Rule:
    def rule(config: Config, shapes: Sequence[Shape]) -> Made:
        sizes, channels = _split(config, shapes[0])
        around = _pairs(config, name, len(sizes))
        made = [None if size is None else size + sign * sum(ends) for size, ends in zip(sizes, around, strict=True)]
        return _joined(config, shapes[0][0], made, channels), 0

    return rule


def _upsampled(config: Config, shapes: Sequence[Shape]) -> Made:
    sizes, channels = _split(config, shapes[0])
    times = _numbers(config, "size", len(sizes), 2)
    made = [None if size is None else size * factor for size, factor in zip(sizes, times, strict=True)]
    return _joined(config, shapes[0][0], made, channels), 0


def _dense(config: Config, shapes: Sequence[Shape]) -> Made:
    units = _number(config, "units")
    return (*shapes[0][:-1], units), _known(shapes[0][-1]) * units + _biases(config, units)


def _embedding(config: Config, shapes: Sequence[Shape]) -> Made:
    width = _number(config, "output_dim")
    return (*shapes[0], width), _number(config, "input_dim") * width


def _flat(_: Config, shapes: Sequence[Shape]) -> Made:
    rest = shapes[0][1:]
    return (shapes[0][0], None if None in rest else prod(map(_known, rest))), 0


def _reshaped(config: Config, shapes: Sequence[Shape]) -> Made:
    wanted = config.get("target_shape")
    if not isinstance(wanted, list) or not all(type(size) is int and size >= -1 for size in wanted):
        raise Broken("a Reshape has no shape")
    whole, known = _flat({}, shapes)[0][1], prod(size for size in wanted if size != -1)
    if wanted.count(-1) > 1 or (whole is not None and (whole % known if known else whole)):
        raise Broken("a Reshape does not fit its input")
    rest = None if whole is None or not known else whole // known
    return (shapes[0][0], *(rest if size == -1 else size for size in wanted)), 0


def _permuted(config: Config, shapes: Sequence[Shape]) -> Made:
    order = config.get("dims")
    axes = order if isinstance(order, list) and all(type(axis) is int for axis in order) else []
    if sorted(axes) != list(range(1, len(shapes[0]))):
        raise Broken("a Permute names axes that its input does not have")
    return (shapes[0][0], *(shapes[0][axis] for axis in axes)), 0


def _repeated(config: Config, shapes: Sequence[Shape]) -> Made:
    return (shapes[0][0], _number(config, "n"), *shapes[0][1:]), 0


def _axis(config: Config, shape: Shape) -> int:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if type(axis) is not int or not -len(shape) <= axis < len(shape):
        raise Broken("a layer names an axis that its input does not have")
    return axis


def _concatenated(config: Config, shapes: Sequence[Shape]) -> Made:
    axis = _axis(config, shapes[0]) % len(shapes[0])
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        raise Broken("a Concatenate joins inputs of different ranks")
    sizes = [shape[axis] for shape in shapes]
    total = None if None in sizes else sum(map(_known, sizes))
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :]), 0


def _merged(_: Config, shapes: Sequence[Shape]) -> Made:
    """Elementwise, with axes of 1 stretched."""
    made = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(made) or any(a != b and 1 not in {a, b} for a, b in zip(made, shape, strict=True)):
            raise Broken("a layer merges inputs of different shapes")
        made = tuple(b if a == 1 else a for a, b in zip(made, shape, strict=True))
    return made, 0


def _normalized(*sizes: str) -> Rule:
    def rule(config: Config, shapes: Sequence[Shape]) -> Made:
        channels = _known(shapes[0][_axis(config, shapes[0])])
        learned = sum(bool(config.get(name, True)) for name in ("center", "scale"))
        return shapes[0], (learned + len(sizes)) * channels

    return rule


def _recurrent(gates: int) -> Rule:
    def rule(config: Config, shapes: Sequence[Shape]) -> Made:
        if len(shapes[0]) != 3:
            raise Broken("a recurrent layer's input does not have three axes")
        units, width = _number(config, "units"), _known(shapes[0][2])
        biases = 2 if gates == 3 and config.get("reset_after", True) else 1
        weights = gates * (units * (width + units) + _biases(config, biases * units))
        return (*shapes[0][: 2 if config.get("return_sequences") else 1], units), weights

    return rule


LAYERS: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "Activation",
            "ReLU",
            "LeakyReLU",
            "ELU",
            "Softmax",
            "Dropout",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "SpatialDropout3D",
            "GaussianNoise",
            "GaussianDropout",
            "ActivityRegularization",
            "Rescaling",
            "Identity",
        ),
        _same,
    ),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys((f"{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)), _pool),
    **dict.fromkeys((f"Global{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)), _global_pool),
    **dict.fromkeys((f"ZeroPadding{rank}D" for rank in (1, 2, 3)), _padded("padding", 1)),
    **dict.fromkeys((f"Cropping{rank}D" for rank in (1, 2, 3)), _padded("cropping", -1)),
    **dict.fromkeys((f"UpSampling{rank}D" for rank in (1, 2, 3)), _upsampled),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merged),
    "BatchNormalization": _normalized("moving_mean", "moving_variance"),
    "LayerNormalization": _normalized(),
    "GroupNormalization": _normalized(),
    "Dense": _dense,
    "Embedding": _embedding,
    "Flatten": _flat,
    "Reshape": _reshaped,
    "Permute": _permuted,
    "RepeatVector": _repeated,
    "Concatenate": _concatenated,
    "SimpleRNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
}
