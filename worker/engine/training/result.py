"""What a training achieved, and what the report says of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from app.spec.metrics import TOP1
from app.spec.report import Chart, Series
from worker.engine.context import Fact


@dataclass(frozen=True)
class Trained:
    """A graph with the weights of its best epoch, in eval mode, on the CPU."""

    module: fx.GraphModule
    history: tuple[Mapping[str, float | None], ...]
    """Of each epoch: `loss` in training (None for epoch 0, before it), `validation_loss`, `learning_rate` and, by
    the name of that metric, the share of right answers."""
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
        epochs = len(self.history) - 1
        where = f"epoch {self.best_epoch} of {epochs} was the best, with"
        if not self.best_epoch:
            where = f"none of {epochs} epochs was better than the model before, which is kept, with"
        if (was := before[TOP1.name]) is not None and (now := best[TOP1.name]) is not None:
            shares = f"{TOP1.level(now)} right answers (before: {TOP1.level(was)})"
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
            f"validation_{TOP1.name}_before": self.history[0][TOP1.name],
            f"validation_{TOP1.name}": self.best[TOP1.name],
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
        if self.best[TOP1.name] is None:
            return (losses,)
        return (losses, chart("Right answers on the validation rows", "share", validation=TOP1.name))
