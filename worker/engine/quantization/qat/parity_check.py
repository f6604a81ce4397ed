"""The trained graph and the delivered one on the same rows: they are to give the same answers."""

import numpy as np
import torch

from app.spec.report import OutputParity
from app.spec.scores import are_class_numbers, fits
from worker.engine.context import Context
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import lower_static
from worker.engine.measure.class_axes import class_axes
from worker.engine.measure.parity import Parity
from worker.engine.measure.running import Arrays, paired, runner
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.plan.plan import StaticPlan
from worker.engine.quantization.qat.fake_quantized import FakeQuantized
from worker.engine.quantization.qat.qat_model import QatModel
from worker.engine.training.losses import labels_spec

ROWS = 1024
BATCH = 32


def compare(
    subject: QatModel, fake_quantized: FakeQuantized, plan: StaticPlan, output: str, context: Context
) -> OutputParity | None:
    """How closely ONNX Runtime's integer kernels follow the trained network's output of this name.

    On rows of the role `validation`, or on some it was trained on. The kernels add exactly where floating point
    rounds, so a value at the border of two codes may fall to either side: such ties are all that may differ, unless
    this machine multiplies bytes without VNNI, where sums of large 8-bit weights saturate. None: nothing to compare.
    """
    rows = context.data.get("validation", context.data["train"]).sample(ROWS, context.seed)
    lowered = save(lower_static(plan, PROFILES["x86"]), context.scratch / "aware.onnx")[0]
    fixed = subject.decomposed.signature.inputs[0].shape[0]
    size = fixed if isinstance(fixed, int) else BATCH

    def trained(inputs: Arrays) -> Arrays:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
        with torch.inference_mode():
            outputs = subject.decomposed.outputs_of(fake_quantized.module, tensors)
        return {name: output.numpy() for name, output in outputs.items()}

    parity = _parity(subject, plan, output, context)
    for pair in paired(trained, runner(session(lowered, context.threads)), rows.batches(size), size):
        parity.add(pair)
    return next((tensor for tensor in parity.outputs() if tensor.output == output), None)


def _parity(subject: QatModel, plan: StaticPlan, output: str, context: Context) -> Parity:
    """What compares outputs by their meaning; labels tell that of the output that learned them."""
    labels = labels_spec(context.data["train"])
    learned = next(tensor for tensor in subject.decomposed.signature.outputs if tensor.name == output)
    classified = labels is not None and are_class_numbers(learned, labels)
    regressed = labels is not None and not classified and fits(learned, labels)
    return Parity(
        class_axes(plan.graph, [output] if regressed else (), [output] if classified else ()),
        [output] if regressed else (),
    )
