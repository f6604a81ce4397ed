"""The training loop: the only one. Every step that trains a graph gives it a config, a loss, and its graph."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from app.spec.metrics import TOP1
from app.spec.training import Training
from app.spec.units import remaining
from worker.engine.context import Context
from worker.engine.data.batches import Batch, Source
from worker.engine.errors import EngineError
from worker.engine.torch_program.modes import training_mode
from worker.engine.torch_program.program import Program
from worker.engine.training.augmentation import augmented, is_image
from worker.engine.training.checkpoint import (
    Reached,
    TrainingCheckpoint,
    copied,
    digest,
    optimizer_tensors,
    restore,
    restore_optimizer,
    tensors_of,
)
from worker.engine.training.device import Precision, placed, random_devices
from worker.engine.training.errors import NanLoss
from worker.engine.training.losses import Loss, Outputs, Score, evaluate, learning_output
from worker.engine.training.optimizer import Parameters, masks, optimizer_of, parameter_groups, rate_factor
from worker.engine.training.result import Trained
from worker.engine.training.rows import batch_size, epoch_order, split
from worker.engine.training.squashed_outputs import squashed_outputs


class NothingToAugment(EngineError):
    """Augmentations were asked for, but no input of the model is a batch of images."""

    code = "train.nothing_to_augment"
    remedy = "Leave `augment` out: it changes float inputs of shape [rows, channels, height, width]."


KEPT = (
    "No epoch was better on the validation rows than the model before the step, which is handed on: lower the learning "
    "rate, or leave the step out."
)
KEEP_SECONDS = 10.0
"""Between two checkpoints at least, so that short epochs do not spend their time on writing."""


def train(  # noqa: PLR0913  # the optional ones are for steps that train more than a graph
    program: Program,
    module: fx.GraphModule,
    config: Training,
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
    or, without such, on a tenth of the training rows that is held out. The model before the training is epoch 0, and
    is handed on where no other is better.

    An optimizer step takes the rows of `config.batch`. A graph of a smaller fixed batch is run several times for it,
    and the gradients are added up.

    `loss` may be an `nn.Module`, whose parameters are trained, too. `name` says which step trains, and tells its
    checkpoints from those of others that begin with the same weights and config. Zeros of the parameters `sparse` stay
    zero. `forward` computes outputs by name for inputs by name where that is more than running `module`.
    `parameters` are those to train (all with floating dtypes if left out). `after_step` is called after each
    optimizer step. After epochs, the state goes to `context.checkpoints`, and a training begins where an earlier
    attempt left it: on one CPU thread it then ends with the same weights, bit by bit.

    Raises `NanLoss`, `NothingToAugment`, `UnknownOutput`, and what the loss raises.
    """
    if config.augment and not any(is_image(tensor) for tensor in program.example(2).values()):
        raise NothingToAugment("No input of the model is a batch of images.")
    training, validation, notes = split(context)
    output = learning_output(config, program, context).name
    modules: tuple[nn.Module, ...] = (module, loss) if isinstance(loss, nn.Module) else (module,)
    with placed(modules, context.device), torch.random.fork_rng(random_devices(context)):
        run = _Run(
            config=config,
            module=module,
            modules=modules,
            forward=forward or (lambda inputs: program.outputs_of(module, inputs)),
            loss=loss,
            output=output,
            batch=batch_size(program, config),
            fixed=isinstance(program.signature.inputs[0].shape[0], int),
            context=context,
            training=training,
            validation=validation,
            parameters=parameters,
            masks=masks(module, sparse),
            after_step=after_step,
        )
        key = digest(run.tensors, name, config.model_dump_json(), str(context.seed), str(len(training)))
        reached = run.go(TrainingCheckpoint(context.checkpoints, key), keep_seconds)
    notes = (*notes, *run.precision.notes(config))
    if reached.best_epoch == 0:
        notes = (*notes, KEPT)
    if reached.ended and reached.epoch < config.epochs:
        notes = (*notes, f"Stopped after epoch {reached.epoch}: {config.patience} epochs without a better one.")
    if squash := squashed_outputs(program).get(output):
        notes = (*notes, f"Output '{output}' is a {squash}: it was trained as the probabilities that it gives.")
    if others := [f"'{tensor.name}'" for tensor in program.signature.outputs if tensor.name != output]:
        notes = (
            *notes,
            f"Output '{output}' was trained and chose the best epoch; {', '.join(others)} may have changed with it.",
        )
    return Trained(module, tuple(reached.history), reached.best_epoch, len(training), len(validation), notes, output)


@dataclass
class _Run:
    """One training, from its first or a later epoch to its last."""

    config: Training
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
        self.groups = parameter_groups(self.modules, self.parameters, self.config)
        self.optimizer = optimizer_of(self.groups, self.config)
        self.precision = Precision.of(self.config, self.context.device)
        self.scaler = self.precision.scaler()
        self.batches_in_epoch = max(1, len(list(self._order(1))))
        self.batches_in_step = max(1, self.config.batch // self.batch) if self.fixed else 1
        self.best: dict[str, Tensor] = {}

    def go(self, checkpoint: TrainingCheckpoint, keep_seconds: float) -> Reached:
        """Take the epochs that are left and put the best weights into the modules."""
        reached = self._resume(checkpoint) or self._begin()
        began, began_with, kept = time.monotonic(), reached.epoch, time.monotonic()
        while not reached.ended:
            reached.epoch += 1
            trained = self._epoch(reached, began, began_with)
            self._judge(reached, trained)
            if reached.ended or time.monotonic() - kept >= keep_seconds:
                self._keep(checkpoint, reached)
                kept = time.monotonic()
        restore(self.tensors, self.best)
        return reached

    def _begin(self) -> Reached:
        """The model before the training is the best so far."""
        self.best = copied(self.tensors)
        return Reached(history=[self._figures(None, self._evaluate())])

    def _epoch(self, reached: Reached, began: float, began_with: int) -> float:
        """Take every training row once; the mean loss."""
        epoch = reached.epoch
        torch.manual_seed(_seed(self.context.seed, epoch))  # of dropout
        random = np.random.default_rng([self.context.seed, epoch, 1])
        total, rows = 0.0, 0
        with training_mode(self.module):
            for number, order in enumerate(self._order(epoch)):
                batch = next(self.training.batches(order, len(order), self.context.device))
                batch = augmented(batch, self.config.augment, random)
                value = self._accumulate(batch, epoch, number)
                total, rows = total + value * len(batch), rows + len(batch)
                done = epoch - 1 + (number + 1) / self.batches_in_epoch
                left = (time.monotonic() - began) / (done - began_with) * (self.config.epochs - done)
                message = f"epoch {epoch} of {self.config.epochs}, loss {total / rows:.3g}, {remaining(left)}"
                self.context.progress.advance(done / self.config.epochs, message)
        return total / rows

    def _accumulate(self, batch: Batch, epoch: int, number: int) -> float:
        """Add a batch's gradients to those of its optimizer step, and take the step after its last batch; the loss."""
        first = number - number % self.batches_in_step
        last = min(first + self.batches_in_step, self.batches_in_epoch) - 1
        if number == first:
            self._set_learning_rate((epoch - 1) * self.batches_in_epoch + number)
            self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = self.loss(self.forward(batch.inputs), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NanLoss(f"The loss of batch {number + 1} of epoch {epoch} is {value}.")
        self.scaler.scale(loss / (last - first + 1)).backward()
        if number == last:
            self._step()
        return value

    def _step(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for parameter, mask in self.masks:
                parameter.mul_(mask)
        if self.after_step is not None:
            self.after_step()

    def _judge(self, reached: Reached, trained: float) -> None:
        """Evaluate the epoch, keep its weights if it is the best, and decide whether it is the last."""
        score = self._evaluate()
        if score.rank > _rank(reached.history[reached.best_epoch]):
            reached.best_epoch, self.best = reached.epoch, copied(self.tensors)
        reached.history.append(self._figures(trained, score))
        waited = reached.epoch - reached.best_epoch
        patience = self.config.patience
        reached.ended = reached.epoch >= self.config.epochs or (patience is not None and waited >= patience)

    def _evaluate(self) -> Score:
        with self.precision.autocast():
            return evaluate(
                self.forward,
                self.loss,
                self.validation,
                output=self.output,
                batch=self.batch,
                fixed=self.fixed,
                device=self.context.device,
            )

    def _figures(self, trained: float | None, score: Score) -> dict[str, float | None]:
        rate = None if trained is None else self.optimizer.param_groups[0]["lr"]
        return {"loss": trained, "validation_loss": score.loss, TOP1.name: score.right_answers, "learning_rate": rate}

    def _set_learning_rate(self, batch: int) -> None:
        factor = rate_factor(self.config, batch / self.batches_in_epoch)
        for group, given in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = factor * given.get("lr", self.config.learning_rate)

    def _order(self, epoch: int) -> Iterator[np.ndarray]:
        return epoch_order(len(self.training), self.batch, self.context.seed, epoch, fixed=self.fixed)

    def _keep(self, checkpoint: TrainingCheckpoint, reached: Reached) -> None:
        reached.scaler = self.scaler.state_dict()
        groups = {"best": self.best}
        if not reached.ended:
            groups |= {"model": self.tensors, "optimizer": optimizer_tensors(self.optimizer)}
        checkpoint.keep(reached, groups)

    def _resume(self, checkpoint: TrainingCheckpoint) -> Reached | None:
        kept = checkpoint.find()
        if kept is None:
            return None
        reached, groups = kept
        self.best = groups["best"]
        if not reached.ended:
            restore(self.tensors, groups["model"])
            restore_optimizer(self.optimizer, groups.get("optimizer", {}))
            self.scaler.load_state_dict(reached.scaler)
        self.context.progress.log(f"Going on after epoch {reached.epoch}, which an earlier attempt reached.")
        return reached


def _rank(figures: Mapping[str, float | None]) -> tuple[float, float]:
    return (figures[TOP1.name] or 0.0, -(figures["validation_loss"] or 0.0))


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, 2]).generate_state(1)[0])
