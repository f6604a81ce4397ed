"""A target is what may be asked, how it is written, how it is opened and run, and what it makes of operators.

In the house the class is a file of `app/spec/targets`, with a row in `TARGETS`; the rest is a folder of
`worker/engine/targets`: `delivery.py`, `runtime.py` and `compatibility.py`, with a row in `FORMATS`. What cannot be
installed beside PyTorch runs in a toolchain: one more module, in `worker/toolchains`. This one needs none: it is an
ONNX file, compressed.
"""

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from app.spec.compatibility import Compatibility
from app.spec.report import Size
from app.spec.targets import AnyTarget, OnnxTarget
from worker.engine.model import Model
from worker.engine.onnx_graph.file import save
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.format import Format
from worker.engine.targets.onnx.delivery import lower
from worker.engine.targets.onnx.runtime import OnnxRuntime
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.usage import example_rows, usage


class GzipTarget(AnyTarget):
    """An ONNX file, compressed: for slow links, not for speed."""

    format: Literal["gzip"] = "gzip"
    level: Literal[1, 9] = 9

    @property
    def label(self) -> str:
        return f"gzip/{self.level}"

    @property
    def title(self) -> str:
        return f"ONNX, compressed at level {self.level}"

    @property
    def lacks(self) -> frozenset[str]:
        """Jobs with such a step are refused when they are submitted."""
        return frozenset({"quantize.dynamic"})


@dataclass(frozen=True)
class GzippedRuntime(OnnxRuntime):
    """ONNX Runtime on the unpacked file. What is deployed, and weighed, is the packed one."""

    packed: Path

    def size(self) -> Size:
        return Size(before_bytes=self.baseline.stat().st_size, after_bytes=self.packed.stat().st_size)


@contextmanager
def deliver_gzip(target: GzipTarget, model: Model, context: ExportContext) -> Iterator[Exported]:
    """Write `model-gzip-<level>.onnx.gz`; it can be run as long as the context lasts. Raises `PlanNotSupported`."""
    plain = save(lower(OnnxTarget(), model), context.scratch / "plain.onnx")[0]
    packed = context.out / f"model-{target.label.replace('/', '-')}.onnx.gz"
    with plain.open("rb") as source, gzip.open(packed, "wb", target.level) as copy:
        shutil.copyfileobj(source, copy)
    with open_gzip(target, (packed,), context) as opened:
        yield Exported(opened.files, opened.runtime, _usage(target, packed, model))


@contextmanager
def open_gzip(_target: GzipTarget, files: tuple[Path, ...], context: ExportContext) -> Iterator[Exported]:
    """Open what was delivered, now or by an earlier job."""
    plain = context.scratch / "unpacked.onnx"
    with gzip.open(files[0]) as source, plain.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    runtime = GzippedRuntime(context.original.graph, plain, context.threads, context.scratch, files[0])
    yield Exported(files, runtime, usage="")


def gzip_compatibility(targets: tuple[GzipTarget, ...], look: Look) -> Iterator[Compatibility]:
    """Compression does not mind which operators there are."""
    tally = Tally()
    for node in onnx.load(look.model.graph, load_external_data=False).graph.node:
        tally.add(node.op_type, "supported", "", "gzip")
    for target in targets:
        yield table(target, tally)


def _usage(target: GzipTarget, packed: Path, model: Model) -> str:
    code = f"""
import gzip

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(gzip.open({packed.name!r}).read(), providers=["CPUExecutionProvider"])
{example_rows(model.signature)}
outputs = session.run(None, rows)
"""
    return usage(target.title, [packed.name], "onnxruntime numpy", code, model.signature)


GZIP = Format(deliver_gzip, open_gzip, gzip_compatibility)
