"""The commands that build and time an engine: `trtexec` comes with TensorRT.

Sources: NVIDIA's pages "trtexec" and "Migrating trtexec Usage" from 8.x to 10.x and from 10.x to 11.x: 10 has
`--memPoolSize` for `--workspace`, and no `--explicitBatch`; 11 has no `--fp16`, `--int8` and `--int4`.
"""

import shlex
from collections.abc import Iterable

from onnx import ModelProto, TensorProto

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.onnx_graph.file import graphs
from worker.engine.targets.tensorrt.releases import Release

WORKSPACE_MIB = 1024
"""Memory that kernels may use while they are chosen. A Jetson shares its memory with the CPU."""
BATCHES = (1, 8, 32)
"""Smallest, usual and largest batch where the model sets no bounds."""
SIZES = (1, 128, 512)
"""The same of other axes that vary: mostly lengths of texts."""
FLAGS: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8", TensorProto.INT4: "int4"}
"""Types that TensorRT 10 uses only if told to."""

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def shape_ranges(signature: Signature) -> dict[str, Range]:
    """Smallest, usual and largest shape of each input that varies."""
    return {
        tensor.name: (_shape(tensor, 0), _shape(tensor, 1), _shape(tensor, 2))
        for tensor in signature.inputs
        if any(isinstance(size, Dimension) for size in tensor.shape)
    }


def precisions(model: ModelProto) -> tuple[str, ...]:
    """Which of TensorRT 10's precision flags the graph needs."""
    stored = {tensor.data_type for graph in graphs(model.graph) for tensor in graph.initializer}
    return tuple(flag for kind, flag in FLAGS.items() if kind in stored)


def build_command(file: str, release: Release, signature: Signature, flags: Iterable[str]) -> str:
    """The command that builds `<file without suffix>.engine`, in lines of one option."""
    engine = file.removesuffix(".onnx") + ".engine"
    options = [f"--onnx={file}", f"--saveEngine={engine}", f"--memPoolSize=workspace:{WORKSPACE_MIB}"]
    ranges = shape_ranges(signature)
    for place, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        if ranges:
            options.append(f"--{option}={_spelled({name: sizes[place] for name, sizes in ranges.items()})}")
    options += [] if release.strongly_typed else [f"--{flag}" for flag in flags]
    options += ["--profilingVerbosity=detailed", "--exportLayerInfo=layers.json"]
    return _command(options)


def time_command(file: str, signature: Signature) -> str:
    """The command that times the engine at its usual shapes."""
    usual = {name: sizes[1] for name, sizes in shape_ranges(signature).items()}
    shapes = [f"--shapes={_spelled(usual)}"] if usual else []
    return _command([f"--loadEngine={file.removesuffix('.onnx')}.engine", *shapes])


def _command(options: list[str]) -> str:
    return " \\\n    ".join(["trtexec", *(shlex.quote(option) for option in options)])


def _shape(tensor: TensorSpec, place: int) -> tuple[int, ...]:
    return tuple(
        _size(size, (BATCHES if axis == 0 else SIZES)[place], place) if isinstance(size, Dimension) else size
        for axis, size in enumerate(tensor.shape)
    )


def _size(dimension: Dimension, wanted: int, place: int) -> int:
    """Within the bounds; a known bound is the bound of the engine, too."""
    low, high = max(dimension.min or 1, 1), dimension.max
    if place == 0:
        return low
    if place == 2 and high is not None:
        return high
    return max(low, wanted if high is None else min(wanted, high))


def _spelled(shapes: dict[str, tuple[int, ...]]) -> str:
    """As trtexec reads them: `name:1x3x224x224,…`; a name with its separators stands in quotes."""
    parts = []
    for name, shape in shapes.items():
        quoted = f"'{name}'" if set(name) & set(":,") else name
        parts.append(f"{quoted}:{'x'.join(map(str, shape))}")
    return ",".join(parts)
