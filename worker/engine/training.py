"""The training loop: the only one. Every step that trains a graph gives it a plan, a loss, and its graph."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from app.spec.report import Chart, Series
from app.spec.training import Training
from app.spec.units import remaining
from worker.engine.batches import Batch, Source, augmented, filled_up, is_image
from worker.engine.errors import NanLoss, NothingToAugment
from worker.engine.losses import Loss, Outputs, Score, evaluate, learning_output
from worker.engine.modes import training_mode
from worker.engine.passes import Context, Fact
from worker.engine.program import Program
from worker.engine.training_state import (
    Keeper,
    Reached,
    copied,
    digest,
    optimizer_tensors,
    restore,
    restore_optimizer,
    tensors_of,
)

KEEP_SECONDS = 10.0
"""Between two checkpoints at least, so that short epochs do not spend their time on writing."""
HELD_OUT = 0.1
"""Share of the training rows that choose the best epoch where no validation rows are named."""
Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""Those to train, or groups of them with `lr` and `weight_decay` of their own, as optimizers take them."""


@dataclass(frozen=True)
class Trained:
    """A graph with the weights of its best epoch, in eval mode, on the CPU."""

    module: fx.GraphModule
    history: tuple[Mapping[str, float | None], ...]
    """Of each epoch: `loss` in training (None for epoch 0, before it), `validation_loss`, `top1`, `learning_rate`."""
    best_epoch: int
    rows: int
    validation_rows: int
    notes: tuple[str, ...]
    output: str
    """The one that learned the labels."""

    @property
    def best(self) -> Mapping[str, float | None]:
        """Figures of the best epoch."""
        return self.history[self.best_epoch]

    @property
    def outcome(self) -> str:
        """What the best epoch achieved, as part of a sentence."""
        before, best = self.history[0], self.best
        where = f"epoch {self.best_epoch} of {len(self.history) - 1} was the best, with"
        if before["top1"] is not None and best["top1"] is not None:
            shares = f"{100 * best['top1']:.1f} % right answers (before: {100 * before['top1']:.1f} %)"
            return f"{where} {shares} on {self.validation_rows} validation rows"
        loss = f"a loss of {best['validation_loss']:.3g} (before: {before['validation_loss']:.3g})"
        return f"{where} {loss} on {self.validation_rows} validation rows"

    @property
    def facts(self) -> dict[str, Fact]:
        """What a report says of every training."""
        figures: dict[str, Fact | None] = {
            "epochs": len(self.history) - 1,
            "best_epoch": self.best_epoch,
            "trained_output": self.output,
            "train_rows": self.rows,
            "validation_rows": self.validation_rows,
            "loss": self.best["loss"],
            "validation_loss": self.best["validation_loss"],
            "validation_top1_before": self.history[0]["top1"],
            "validation_top1": self.best["top1"],
        }
        return {name: value for name, value in figures.items() if value is not None}

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The loss by epoch, and the share of right answers where labels are classes."""

        def chart(title: str, label: str, **series: str) -> Chart:
            lines = tuple(
                Series(name=name.replace("_", " "), values=tuple(epoch[key] for epoch in self.history))
                for name, key in series.items()
            )
            epochs = tuple(float(number) for number in range(len(self.history)))
            return Chart(title=title, kind="line", x_label="epoch", y_label=label, x=epochs, series=lines)

        losses = chart("Loss", "loss", training="loss", validation="validation_loss")
        if self.best["top1"] is None:
            return (losses,)
        return (losses, chart("Right answers on the validation rows", "share", validation="top1"))


def train(  # noqa: PLR0913  # the optional ones are for steps that train more than a graph
    program: Program,
    module: fx.GraphModule,
    plan: Training,
    loss: Loss,
    context: Context,
    *,
    name: str,
    sparse: Collection[str] = frozenset(),
    forward: Callable[[Mapping[str, Tensor]], Outputs] | None = None,
    parameters: Parameters | None = None,
    after_step: Callable[[], None] | None = None,
    keep_seconds: float = KEEP_SECONDS,
) -> Trained:
    """Train `module`, a graph of `program`, on the rows of the role `train`, and return it with its best weights.

    The best epoch is the one with the most right answers, then the lowest loss, on the rows of the role `validation`
    or, without such, on a tenth of the training rows that is held out.

    `loss` may be an `nn.Module`, whose parameters are trained, too. `name` says which step trains, and tells its
    checkpoints from those of others that begin with the same weights and plan. Zeros of the parameters `sparse` stay
    zero. `forward` computes outputs by name for inputs by name where that is more than running `module`.
    `parameters` are those to train (all with floating dtypes if left out). `after_step` is called after each
    optimizer step. After epochs, the state goes to `context.checkpoints`, and a training begins where an earlier
    attempt left it: on one CPU thread it then ends with the same weights, bit by bit.

    Raises `NanLoss`, `NothingToAugment`, `UnknownOutput`, and what the loss raises.
    """
    if plan.augment and not any(is_image(tensor) for tensor in program.example(2).values()):
        raise NothingToAugment("No input of the model is a batch of images.")
    training, validation, notes = _split(context)
    output = learning_output(plan, program, context).name
    modules: tuple[nn.Module, ...] = (module, loss) if isinstance(loss, nn.Module) else (module,)
    with _placed(modules, context.device), torch.random.fork_rng(_devices(context)):
        run = _Run(
            plan=plan,
            module=module,
            modules=modules,
            forward=forward or (lambda inputs: program.outputs_of(module, inputs)),
            loss=loss,
            output=output,
            batch=_batch_size(program, plan),
            fixed=isinstance(program.signature.inputs[0].shape[0], int),
            context=context,
            training=training,
            validation=validation,
            parameters=parameters,
            masks=_masks(module, sparse),
            after_step=after_step,
        )
        key = digest(run.tensors, name, plan.model_dump_json(), str(context.seed), str(len(training)))
        reached = run.go(Keeper(context.checkpoints, key), keep_seconds)
    if plan.mixed_precision and context.device == "cpu":
        notes = (*notes, "mixed_precision has no effect on a CPU: the model was trained in float32.")
    if reached.ended and reached.epoch < plan.epochs:
        notes = (*notes, f"Stopped after epoch {reached.epoch}: {plan.patience} epochs without a better one.")
    if others := [f"'{one.name}'" for one in program.signature.outputs if one.name != output]:
        notes = (*notes, f"Output '{output}' learned the labels; {', '.join(others)} may have changed with it.")
    return Trained(module, tuple(reached.history), reached.best_epoch, len(training), len(validation), notes, output)


@dataclass
class _Run:
    """One training, from its first or a later epoch to its last."""

    plan: Training
    module: fx.GraphModule
    modules: tuple[nn.Module, ...]
    forward: Callable[[Mapping[str, Tensor]], Outputs]
    loss: Loss
    output: str
    batch: int
    fixed: bool
    """The graph takes batches of this size only."""
    context: Context
    training: Source
    validation: Source
    parameters: Parameters | None
    masks: list[tuple[Tensor, Tensor]]
    after_step: Callable[[], None] | None

    def __post_init__(self) -> None:
        self.tensors = tensors_of(*self.modules)
        self.groups = _groups(self.modules, self.parameters, self.plan)
        self.optimizer = _optimizer(self.groups, self.plan)
        on_gpu = self.context.device == "cuda"
        self.half = self.plan.mixed_precision and on_gpu
        self.scaler = torch.amp.GradScaler(self.context.device, enabled=self.half)
        self.steps_in_epoch = max(1, len(list(self._epoch_order(1))))
        self.best: dict[str, Tensor] = {}

    def go(self, keeper: Keeper, keep_seconds: float) -> Reached:
        """Take the epochs that are left and put the best weights into the modules."""
        reached = self._resume(keeper) or Reached(history=[self._figures(None, self._evaluate())])
        began, began_with, kept = time.monotonic(), reached.epoch, time.monotonic()
        while not reached.ended:
            reached.epoch += 1
            trained = self._epoch(reached, began, began_with)
            self._judge(reached, trained)
            if reached.ended or time.monotonic() - kept >= keep_seconds:
                self._keep(keeper, reached)
                kept = time.monotonic()
        restore(self.tensors, self.best)
        return reached

    def _epoch(self, reached: Reached, began: float, began_with: int) -> float:
        """Take every training row once; the mean loss."""
        epoch = reached.epoch
        torch.manual_seed(_seed(self.context.seed, epoch))  # of dropout
        random = np.random.default_rng([self.context.seed, epoch, 1])
        total, rows = 0.0, 0
        with training_mode(self.module):
            for step, order in enumerate(self._epoch_order(epoch)):
                batch = next(self.training.batches(order, len(order), self.context.device))
                batch = augmented(batch, self.plan.augment, random)
                value = self._step(batch, (epoch - 1) * self.steps_in_epoch + step)
                total, rows = total + value * len(batch), rows + len(batch)
                done = epoch - 1 + (step + 1) / self.steps_in_epoch
                left = (time.monotonic() - began) / (done - began_with) * (self.plan.epochs - done)
                message = f"epoch {epoch} of {self.plan.epochs}, loss {total / rows:.3g}, {remaining(left)}"
                self.context.progress.advance(done / self.plan.epochs, message)
        return total / rows

    def _step(self, batch: Batch, step: int) -> float:
        self._set_learning_rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.loss(self.forward(batch.inputs), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NanLoss(f"The loss of step {step + 1} (epoch {step // self.steps_in_epoch + 1}) is {value}.")
        self.scaler.scale(loss).backward()
        if self.plan.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [one for group in self.optimizer.param_groups for one in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.plan.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for parameter, mask in self.masks:
                parameter.mul_(mask)
        if self.after_step is not None:
            self.after_step()
        return value

    def _judge(self, reached: Reached, trained: float) -> None:
        """Evaluate the epoch, keep its weights if it is the best, and decide whether it is the last."""
        score = self._evaluate()
        if not self.best or score.rank > _rank(reached.history[reached.best_epoch]):
            reached.best_epoch, self.best = reached.epoch, copied(self.tensors)
        reached.history.append(self._figures(trained, score))
        waited = reached.epoch - reached.best_epoch
        patience = self.plan.patience
        reached.ended = reached.epoch >= self.plan.epochs or (patience is not None and waited >= patience)

    def _evaluate(self) -> Score:
        with self._autocast():
            return evaluate(
                self.forward, self.loss, self.validation,
                output=self.output, batch=self.batch, fixed=self.fixed, device=self.context.device,
            )  # fmt: skip

    def _figures(self, trained: float | None, score: Score) -> dict[str, float | None]:
        rate = None if trained is None else self.optimizer.param_groups[0]["lr"]
        return {"loss": trained, "validation_loss": score.loss, "top1": score.top1, "learning_rate": rate}

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.float16) if self.half else nullcontext()

    def _set_learning_rate(self, step: int) -> None:
        factor = rate_factor(self.plan, step / self.steps_in_epoch)
        for group, given in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = factor * given.get("lr", self.plan.learning_rate)

    def _epoch_order(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows of each batch of an epoch. A last batch of one row has no variance for batch norms: it is left out."""
        order = np.random.default_rng([self.context.seed, epoch]).permutation(len(self.training))
        if self.fixed:
            order = filled_up(order, self.batch)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            if start == 0 or len(rows) > 1:
                yield rows

    def _keep(self, keeper: Keeper, reached: Reached) -> None:
        reached.scaler = self.scaler.state_dict()
        groups = {"best": self.best}
        if not reached.ended:
            groups |= {"model": self.tensors, "optimizer": optimizer_tensors(self.optimizer)}
        keeper.keep(reached, groups)

    def _resume(self, keeper: Keeper) -> Reached | None:
        found = keeper.find()
        if found is None:
            return None
        reached, groups = found
        self.best = groups["best"]
        if not reached.ended:
            restore(self.tensors, groups["model"])
            restore_optimizer(self.optimizer, groups.get("optimizer", {}))
            self.scaler.load_state_dict(reached.scaler)
        self.context.progress.log(f"Going on after epoch {reached.epoch}, which an earlier attempt reached.")
        return reached


def rate_factor(plan: Training, epoch: float) -> float:
    """Share of the learning rate after so many epochs, counted in fractions."""
    warmup = plan.warmup_epochs
    if epoch < warmup:
        return (epoch + 1e-3) / warmup if epoch == 0 else epoch / warmup
    if plan.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - warmup) / (plan.epochs - warmup))) / 2
    if plan.schedule == "step":
        return plan.decay_factor ** int(epoch // plan.decay_epochs)
    return 1.0


def _rank(figures: Mapping[str, float | None]) -> tuple[float, float]:
    return (figures["top1"] or 0.0, -(figures["validation_loss"] or 0.0))


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, 2]).generate_state(1)[0])


def _split(context: Context) -> tuple[Source, Source, tuple[str, ...]]:
    """Rows to train on, rows to choose the best epoch on, and what to tell about them."""
    source = Source(context.data["train"])
    if "validation" in context.data:
        return source, Source(context.data["validation"]), ()
    held_out = max(1, round(HELD_OUT * len(source)))
    if held_out >= len(source):
        return source, source, ("There is one training row: the best epoch was chosen on it.",)
    order = np.random.default_rng([context.seed, 0]).permutation(len(source))
    note = f"No validation rows were named: {held_out} of the training rows were held out to choose the best epoch."
    return source.part(np.sort(order[held_out:])), source.part(np.sort(order[:held_out])), (note,)


def _groups(modules: tuple[nn.Module, ...], given: Parameters | None, plan: Training) -> list[dict[str, Any]]:
    """What to train: weights with decay; biases and scales, which have one axis, without."""
    if given is None:
        given = [one for module in modules for one in module.parameters() if one.is_floating_point()]
    listed: list[Any] = list(given)
    if not listed or isinstance(listed[0], dict):
        groups = [{**group, "params": list(group["params"])} for group in listed]
    else:
        matrices = [one for one in listed if one.ndim > 1]
        others = [one for one in listed if one.ndim <= 1]
        decayed = {"params": matrices, "weight_decay": plan.weight_decay}
        groups = [group for group in (decayed, {"params": others, "weight_decay": 0.0}) if group["params"]]
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    return groups


def _optimizer(groups: list[dict[str, Any]], plan: Training) -> torch.optim.Optimizer:
    # Copies: optimizers write their state into the groups they are given.
    copies = [dict(group) for group in groups]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(
            copies, plan.learning_rate, momentum=plan.momentum,
            weight_decay=plan.weight_decay, nesterov=plan.momentum > 0,
        )  # fmt: skip
    return torch.optim.AdamW(copies, plan.learning_rate, weight_decay=plan.weight_decay)


def _masks(module: nn.Module, sparse: Collection[str]) -> list[tuple[Tensor, Tensor]]:
    """Pruned parameters with 1 where a weight is left and 0 where it was removed."""
    parameters = dict(module.named_parameters())
    pruned = [parameters[name] for name in sorted(sparse) if name in parameters]
    return [(parameter, (parameter != 0).to(parameter.dtype)) for parameter in pruned]


def _batch_size(program: Program, plan: Training) -> int:
    """Rows in a batch: as planned, within what the program was exported for."""
    sizes = [tensor.shape[0] for tensor in program.signature.inputs]
    if isinstance(sizes[0], int):
        return sizes[0]
    return min([plan.batch, *(size.max for size in sizes if not isinstance(size, int) and size.max is not None)])


def _devices(context: Context) -> list[int]:
    return [torch.cuda.current_device()] if context.device == "cuda" else []


@contextmanager
def _placed(modules: tuple[nn.Module, ...], device: Literal["cpu", "cuda"]) -> Iterator[None]:
    """Have the modules on the device within the block; devices that were baked into graphs follow."""
    move(modules, device)
    try:
        yield
    finally:
        move(modules, "cpu")


def move(modules: tuple[nn.Module, ...], device: Literal["cpu", "cuda"]) -> None:
    """Move modules to a device, and have operators of their graphs that were exported for another one follow."""
    for module in modules:
        module.to(device)
        for graph in module.modules():
            if isinstance(graph, fx.GraphModule):
                _bake_device(graph, torch.device(device))


def _bake_device(graph: fx.GraphModule, device: torch.device) -> None:
    """Replace the devices in an operator's arguments, such as those of `zeros` or `to`."""

    def replaced(argument: Any) -> Any:
        return device if isinstance(argument, torch.device) else argument

    for node in graph.graph.nodes:
        node.args, node.kwargs = map_aggregate(node.args, replaced), map_aggregate(node.kwargs, replaced)
    graph.recompile()
