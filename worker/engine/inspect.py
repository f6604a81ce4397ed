"""Looking at a model before any job: what it costs, what can be removed, what each step could do to it."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto
from torch._ops import OpOverload

from app.spec.base import Needs, Step
from app.spec.inspection import MOST_GROUPS, Inspection, InspectionOrder, PrunableGroup, StepOutlook
from app.spec.prune import PruneChannels
from app.spec.quantize import QuantizeDynamic, QuantizeStatic
from app.spec.quantize_aware import QuantizeAware
from app.spec.steps import STEPS
from worker.engine.data.rows import SCRATCH
from worker.engine.model import Model, open_model
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.macs import onnx_macs
from worker.engine.onnx_import.errors import NotImported
from worker.engine.passes.quantize_dynamic import dynamically_quantizable
from worker.engine.plan.selection import OTHER_FLOATS, quantizable
from worker.engine.progress import Progress
from worker.engine.pruning.channels.analysis import Channels, analyse
from worker.engine.pruning.channels.cost import Cost, cost_of
from worker.engine.pruning.channels.groups import Group
from worker.engine.torch_program.macs import uncounted

FLOATING = frozenset({onnx.TensorProto.FLOAT, *OTHER_FLOATS})


def inspect(order: InspectionOrder, directory: Path, progress: Progress) -> Inspection:
    """Look at the model of an order, whose file is below `directory`. Raises what `open_model` raises."""
    torch.set_num_threads(order.threads)
    scratch = directory / SCRATCH
    scratch.mkdir(exist_ok=True)
    progress.stage("opening the model", step=1, steps=2)
    model = open_model(order.model, directory, scratch, threads=order.threads, progress=progress)
    progress.stage("looking at the model", step=2, steps=2)
    return look_at(model)


def look_at(model: Model) -> Inspection:
    """What a model costs, and what each kind of step could do to it."""
    started = time.monotonic()
    view = _View(model)
    cost = view.cost
    groups = sorted(view.groups, key=lambda group: -group.parameters)[:MOST_GROUPS]
    return Inspection(
        parameters=cost.parameters,
        macs=cost.macs,
        macs_note=cost.note,
        operators=view.operators,
        groups=tuple(_described(group) for group in view.groups if group in groups),
        frozen_operators={} if view.channels is None else view.channels.frozen_operators,
        not_imported=view.not_imported,
        steps={step.kind(): _outlook(step, view) for step in STEPS},
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Cost:
    parameters: int
    macs: int | None
    note: str


class _View:
    """A model seen as channels, if it is a program or can be made one, and as an ONNX graph."""

    def __init__(self, model: Model) -> None:
        self.model, self.not_imported = model, ""
        self.channels: Channels | None = None
        try:
            self.channels = analyse(model.program)
        except NotImported as error:
            self.not_imported = error.detail

    @property
    def groups(self) -> tuple[Group, ...]:
        return () if self.channels is None else self.channels.groups

    @cached_property
    def graph(self) -> GraphProto:
        return onnx.load(self.model.graph, load_external_data=False).graph

    @cached_property
    def cost(self) -> _Cost:
        if self.channels is None or self.model.reference is None:
            weights = (tensor for tensor in self.graph.initializer if tensor.data_type in FLOATING)
            return _Cost(
                sum(int(np.prod(tensor.dims)) for tensor in weights), *onnx_macs(self.model.graph, self.model.signature)
            )
        left_out = ", ".join(f"{name} ({count}x)" for name, count in uncounted(self.channels.module.graph).items())
        cost = cost_of(self.channels)
        return _Cost(cost.parameters, cost.macs, f"Not counted: {left_out}." if left_out else "")

    @cached_property
    def operators(self) -> dict[str, int]:
        if self.channels is None or self.model.reference is None:
            names = Counter(node.op_type for node in self.graph.node)
        else:
            nodes = self.channels.module.graph.nodes
            names = Counter(str(node.target) for node in nodes if isinstance(node.target, OpOverload))
        return dict(names.most_common())


def _described(group: Group) -> PrunableGroup:
    return PrunableGroup(name=group.name, layers=group.layers, channels=group.channels, parameters=group.parameters)


def _outlook(step: type[Step], view: _View) -> StepOutlook:
    if step.needs.trainable_graph and view.channels is None:
        return StepOutlook(applicable=False, says=f"No program can be made of the ONNX file. {view.not_imported}")
    special = OUTLOOKS.get(step)
    if special is not None:
        try:
            return special(view)
        except ExportFailed as error:  # a program without an ONNX form: steps that need none are told all the same
            return StepOutlook(applicable=False, says=error.detail)
    verb = "trains" if step.needs.train else "works on"
    return StepOutlook(applicable=True, says=f"It {verb} all {view.cost.parameters:,} parameters.{_data(step.needs)}")


def _data(needs: Needs) -> str:
    """The sentence about the rows a step cannot work without."""
    roles = [role for role in ("train", "calibration") if getattr(needs, role)]
    if not roles:
        return ""
    labels = " with labels" if needs.labels else ""
    return f" Needs rows{labels} in the role {' and '.join(roles)}."


def _prune_channels(view: _View) -> StepOutlook:
    channels = view.channels
    if channels is None or not channels.groups:
        return StepOutlook(
            applicable=False, says="No channel can be removed: all meet an output or an unknown operator."
        )
    pruned_mask = np.zeros(len(channels.classes), bool)
    for group in channels.groups:
        pruned_mask[group.classes[: len(group.classes) // 2]] = True
    halved: Cost = cost_of(channels, pruned_mask)
    return StepOutlook(
        applicable=True,
        says=f"{len(channels.groups)} groups of channels; without half of each, "
        f"{1 - halved.parameters / cost_of(channels).parameters:.0%} of the parameters are gone.",
    )


def _quantize_static(view: _View) -> StepOutlook:
    return _quantize(view, quantizable(view.graph, ()), QuantizeStatic.needs)


def _quantize_aware(view: _View) -> StepOutlook:
    return _quantize(view, quantizable(view.graph, ()), QuantizeAware.needs)


def _quantize_dynamic(view: _View) -> StepOutlook:
    return _quantize(view, dynamically_quantizable(view.graph, frozenset()), QuantizeDynamic.needs)


def _quantize(view: _View, nodes: tuple[str, ...], needs: Needs) -> StepOutlook:
    if not nodes:
        return StepOutlook(applicable=False, says="No operator with constant float32 weights has a quantized form.")
    return StepOutlook(
        applicable=True, says=f"{len(nodes)} of {len(view.graph.node)} operators have an integer form.{_data(needs)}"
    )


OUTLOOKS: Mapping[type[Step], Callable[[_View], StepOutlook]] = {
    PruneChannels: _prune_channels,
    QuantizeAware: _quantize_aware,
    QuantizeStatic: _quantize_static,
    QuantizeDynamic: _quantize_dynamic,
}
