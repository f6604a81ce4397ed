"""OpenVINO: intermediate representation (IR) from ONNX graphs, QDQ ones included, and its CPU runtime.

Sources: https://docs.openvino.ai (model conversion, CPU plugin, runtime properties).
"""

import contextlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino.frontend import FrontEndManager

from .artifacts import Arrays, Artifacts, arrays

COMPUTE = {"Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution", "ConvolutionBackpropData"}
"""Layer types of the compiled graph that multiply and add."""


def version() -> dict[str, Any]:
    """Version of OpenVINO's runtime."""
    return {"version": ov.__version__.split("-")[0]}


def convert(model: str, into: str, precision: str, nncf: str | None, rows: list[str]) -> dict[str, Any]:
    """The ONNX file `model` as IR: `<into>.xml` and `<into>.bin`; "fp16" stores float weights in 16 bits.

    `nncf`: "weights" stores weights in 8 bits; "full" quantizes activations as well, on the batches of `rows`.
    """
    converted = ov.convert_model(model)
    if nncf is not None:
        converted = _compressed(converted, nncf, rows)
    ov.save_model(converted, f"{into}.xml", compress_to_fp16=precision == "fp16")
    return {"files": [f"{into}.xml", f"{into}.bin"]}


def _compressed(model: ov.Model, how: str, rows: list[str]) -> ov.Model:
    # Imported here: it takes seconds, and few jobs want it.
    import nncf

    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        if how == "weights":
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        names = [entry.get_any_name() for entry in model.inputs]
        batches = nncf.Dataset(rows, lambda name: {key: arrays(name)[key] for key in names})
        return nncf.quantize(model, batches, subset_size=len(rows))


class _Compiled:
    """A compiled model. float32 where the file does not say less: with AMX the runtime would round to bfloat16."""

    def __init__(self, path: Path, threads: int) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.model = ov.Core().compile_model(str(path), "CPU", settings)
        self.request = self.model.create_infer_request()
        self.outputs = [output.get_any_name() for output in self.model.outputs]

    def __call__(self, feeds: Arrays) -> Arrays:
        self.bind(feeds)()
        return {name: np.array(self.request.get_tensor(name).data) for name in self.outputs}

    def bind(self, feeds: Arrays) -> Any:
        for entry in self.model.inputs:
            name = entry.get_any_name()
            self.request.set_tensor(name, ov.Tensor(feeds[name]))
        return self.request.infer


_artifacts = Artifacts(_Compiled, _Compiled.bind)
run, time = _artifacts.run, _artifacts.time


def placement(artifact: str, threads: int) -> dict[str, Any]:
    """Layers that the compiled graph executes, by type, and how many compute layers have integer kernels."""
    kinds: Counter[str] = Counter()
    integer = floating = 0
    for node in _artifacts.opened(artifact, threads).model.get_runtime_model().get_ordered_ops():
        facts = {key: str(value.astype(str)) for key, value in node.get_rt_info().items() if hasattr(value, "astype")}
        kind = facts.get("layerType", node.get_type_name())
        if kind in {"Input", "Output", "Const"}:
            continue
        kinds[kind] += 1
        if kind in COMPUTE:
            # The kernel's name ends with the type it multiplies: "brgconv_avx512_I8", "brgemm_avx512_f32".
            in_integers = facts.get("primitiveType", "").lower().endswith("i8")
            integer, floating = integer + in_integers, floating + (not in_integers)
    return {"operators": dict(kinds), "integer": integer, "floating": floating}


def compatibility(model: str) -> dict[str, Any]:
    """What of an ONNX file is not read (`unread`), and of the rest not run (`unrun`), by names of nodes and values."""
    reader = FrontEndManager().load_by_framework("onnx")
    read = reader.convert_partially(reader.load(model))
    unread = [node for node in read.get_ordered_ops() if node.get_type_name() == "ONNXFrameworkNode"]
    if unread:
        return {"unread": [name for node in unread for name in _names(node)], "unrun": [], "refusal": None}
    try:
        runs = ov.Core().query_model(read, "CPU")
    except RuntimeError as error:
        return {"unread": [], "unrun": [], "refusal": " ".join(str(error).split())[:1000]}
    unrun = [node for node in read.get_ordered_ops() if node.get_friendly_name() not in runs]
    return {"unread": [], "unrun": [name for node in unrun for name in _names(node)], "refusal": None}


def _names(node: Any) -> list[str]:
    """Of a node and of what it makes: an ONNX node without a name is known by its output."""
    return [node.get_friendly_name(), *(name for output in node.outputs() for name in output.get_names())]
