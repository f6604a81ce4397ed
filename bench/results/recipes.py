"""What is compared: recipes as they are sent to the service, and where each belongs."""

from dataclasses import dataclass
from typing import Any

from bench.harness.figures import Bound, at_least, at_most

Step = dict[str, Any]
TEACHER = "mdl_" + "0" * 32
"""Stands for the subject's trained network in the recipes of a student."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """One row of the page."""

    name: str
    steps: tuple[Step, ...]
    where: str
    """Where to use it, in a few words."""
    drop: Bound | None = None
    """Required of the mean loss of top-1 over the seeds, in points."""
    smaller: Bound | None = None
    """Required of size before / size after."""
    faster: Bound | None = None
    """Required of the speed-up under ONNX Runtime at batch 1."""
    beats: str = ""
    """Another recipe, whose mean top-1 must be lower."""


STATIC: Step = {"type": "quantize.static", "observer": "percentile"}
HALF: Step = {"type": "prune.channels", "ratio": 0.5, "round_to": 8}
SPARSE: Step = {"type": "prune.weights", "sparsity": 0.9, "scope": "global"}
TWO_OF_FOUR: Step = {"type": "prune.weights", "pattern": "2:4"}
SHARED: Step = {"type": "share_weights", "clusters": 16}
SHIFTED = [{"type": "random_crop", "padding": 2}]
"""As the networks on procedural images were trained: shifted by up to two pixels."""


def finetune(epochs: int) -> Step:
    return {"type": "finetune", "epochs": epochs}


def distill(epochs: int, **more: Any) -> Step:
    return {"type": "distill", "teacher": "input", "loss": "dist", "epochs": epochs} | more


def qat(epochs: int, weights: str = "int8") -> Step:
    return {"type": "quantize.aware", "weights": weights, "epochs": epochs}


def weights(values: str, method: str = "rtn") -> Step:
    return {"type": "quantize.weights", "weights": values, "method": method}


def alone(epochs: int) -> tuple[Recipe, ...]:
    """Every technique by itself, with what it needs to recover."""
    return (
        Recipe("float32, exported", (), "the reference"),
        Recipe("static int8", (STATIC,), "convolutions on CPUs: try it first", drop=at_most(0.3)),
        Recipe("dynamic int8", ({"type": "quantize.dynamic"},), "transformers and LSTMs on CPUs"),
        Recipe("weights int8", (weights("int8"),), "size alone, no data at hand"),
        Recipe("weights int4", (weights("int4"),), "size alone: embeddings"),
        *_three_bits(),
        Recipe("QAT w8a8", (qat(epochs),), "where static int8 loses too much", drop=at_most(0.3)),
        Recipe("QAT w4a8", (qat(epochs, "int4"),), "smallest files with integer kernels", drop=at_most(0.5)),
        Recipe("QAT w4a4", (qat(epochs, "int4") | {"activations": "int4"},), "research: no CPU kernels at 4 bits"),
        Recipe("QAT w2a8", (qat(epochs, "int2"),), "downloads and flash", drop=at_most(1.2)),
        Recipe("half the channels, untrained", (HALF,), "never: train afterwards"),
        Recipe("half the channels, DIST", (HALF, distill(epochs)), "gains on every runtime", drop=at_most(0.7)),
        Recipe("90 % sparse, untrained", (SPARSE,), "never: train afterwards"),
        Recipe("90 % sparse, fine-tuned", (SPARSE, finetune(epochs)), "downloads: no CPU speed", drop=at_most(1.0)),
        Recipe("2:4 sparse, fine-tuned", (TWO_OF_FOUR, finetune(epochs)), "GPUs with sparse tensor cores"),
        Recipe("16 shared weights", (SHARED,), "downloads and flash", drop=at_most(0.3)),
    )


def _three_bits() -> tuple[Recipe, ...]:
    """Where the methods of rounding differ."""
    return (
        Recipe("weights int3, to the nearest", (weights("int3"),), "to compare with"),
        Recipe("weights int3, HQQ", (weights("int3", "hqq"),), "below 4 bits without data"),
        Recipe("weights int3, GPTQ", (weights("int3", "gptq"),), "below 4 bits with calibration rows"),
    )


def chains(epochs: int) -> tuple[Recipe, ...]:
    """Techniques that multiply."""
    return (
        Recipe("half, DIST, static int8", (HALF, distill(epochs), STATIC), "the usual chain for CPUs"),
        Recipe("half, DIST, QAT w4a8", (HALF, distill(epochs), qat(epochs, "int4")), "the smallest with kernels"),
        Recipe("90 % sparse, 16 shared weights", (SPARSE, finetune(epochs), SHARED), "the smallest download"),
    )


def pictures(epochs: int) -> tuple[Recipe, ...]:
    """For the larger network, whose training takes minutes: the techniques that differ there, and the whole chain."""
    few = max(1, epochs // 6)
    training = {"learning_rate": 3e-3, "warmup_epochs": 0.5, "augment": SHIFTED}
    recovered = distill(epochs, **training)
    return (
        Recipe("float32, exported", (), "the reference"),
        Recipe("static int8", (STATIC,), "convolutions on CPUs: try it first"),
        Recipe("weights int4", (weights("int4"),), "size alone: embeddings"),
        *_three_bits(),
        Recipe("QAT w4a8", (qat(few, "int4"),), "smallest files with integer kernels"),
        Recipe("half the channels, untrained", (HALF,), "never: train afterwards"),
        Recipe("half the channels, DIST", (HALF, recovered), "gains on every runtime"),
        Recipe("90 % sparse, DIST", (SPARSE, distill(max(1, epochs // 2), **training)), "downloads: no CPU speed"),
        Recipe("16 shared weights", (SHARED,), "downloads and flash"),
        Recipe(
            "half, DIST, QAT int8",
            (HALF, recovered, qat(few)),
            "the whole chain",
            drop=at_most(1.5),
            smaller=at_least(10),
            faster=at_least(5),
        ),
    )


def students(epochs: int) -> tuple[Recipe, ...]:
    """The same small network, with and without a teacher."""
    training = {"batch": 32, "learning_rate": 0.01}
    untaught = Recipe("without a teacher", (finetune(epochs) | training,), "the reference")
    return (
        untaught,
        Recipe("KD", (distill(epochs, teacher=TEACHER, loss="kd", **training),), "to compare with the literature"),
        Recipe(
            "KD, standardized",
            (distill(epochs, teacher=TEACHER, loss="kd_standardized", **training),),
            "students far smaller",
        ),
        Recipe("DIST", (distill(epochs, teacher=TEACHER, **training),), "the default", beats=untaught.name),
    )
