"""Reports to render: ordinary, large, empty and hostile ones."""

import numpy as np

from app.spec.figures import Distribution, MetricChange
from app.spec.report import (
    Chart,
    LatencyChange,
    LayerError,
    Machine,
    ModelSummary,
    OutputParity,
    Placement,
    Report,
    Series,
    Size,
    StepReport,
    Table,
    TargetReport,
)
from app.spec.targets import OnnxTarget

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def distribution(median_ms: float, spread: float, seed: int) -> Distribution:
    times = median_ms * (1 + spread * np.random.default_rng(seed).gamma(2, 1, 200))
    quantiles = [float(value) for value in np.quantile(times, np.linspace(0, 1, 101))]
    return Distribution(
        runs=200,
        mean_ms=float(times.mean()),
        p50_ms=quantiles[50],
        p90_ms=quantiles[90],
        p99_ms=quantiles[99],
        quantiles_ms=tuple(quantiles),
    )


def latency(batch: int = 1, before_ms: float = 2.3, after_ms: float = 0.8) -> LatencyChange:
    before, after = distribution(before_ms, 0.03, 1), distribution(after_ms, 0.05, 2)
    ratio = before.p50_ms / after.p50_ms
    return LatencyChange(
        batch=batch,
        threads=1,
        before=before,
        after=after,
        speedup=ratio,
        speedup_low=0.96 * ratio,
        speedup_high=1.05 * ratio,
        load_average=(0.41, 0.57),
    )


def layers(count: int) -> tuple[LayerError, ...]:
    rng = np.random.default_rng(3)
    decibels = np.clip(46 - 24 * np.linspace(0, 1, count) + rng.normal(0, 5, count), -3, 70) if count else []
    operators = ("Conv", "Conv", "Add", "Gemm")
    return tuple(
        LayerError(
            name=f"/layer{index // 4}/block.{index % 4}/conv", operator=operators[index % 4], sqnr_db=float(value)
        )
        for index, value in enumerate(decibels)
    )


def target(**changed: object) -> TargetReport:
    return TargetReport(
        **{
            "target": OnnxTarget(),
            "runtime": "ONNX Runtime 1.31.1",
            "artifact": "model.onnx-x86.onnx",
            "sha256": DIGEST,
            "verdict": "improved",
            "reasons": (
                "3.6 times smaller (44.7 MB -> 12.4 MB).",
                "top-1 97.8 % -> 97.6 %: a drop of 0.2 points, below what 450 rows can resolve reliably.",
                "Faster: 2.83x (2.72 to 2.98), p50 2.41 ms -> 0.852 ms.",
            ),
            "size": Size(before_bytes=44_700_000, after_bytes=12_400_000),
            "metrics": (
                MetricChange(
                    metric="top1",
                    before=0.978,
                    after=0.976,
                    rows=450,
                    resolution=1 / 450,
                    drop=0.002,
                    drop_low=-0.004,
                    drop_high=0.009,
                ),
            ),
            "latency": (latency(1), latency(16, 31.0, 9.5)),
            "parity": (
                OutputParity(
                    output="scores", rows=450, sqnr_db=31.24, cosine=0.99963, max_abs=0.412, top1_agreement=0.993
                ),
            ),
            "placement": Placement(
                operators={"QLinearConv": 20, "QLinearAdd": 8, "QuantizeLinear": 2, "MaxPool": 1, "QGemm": 1},
                integer=21,
                floating=0,
            ),
            "layers": layers(29),
        }
        | changed
    )


def trained(**changed: object) -> StepReport:
    """A step with every kind of picture."""
    names = tuple(f"layer{index // 4}.{index % 4}.conv1.weight" for index in range(20))
    epochs = 12
    return StepReport(
        **{
            "type": "finetune",
            "seconds": 93.2,
            "summary": "Trained 12 epochs on 16,000 rows; the best of them was epoch 11 (top-1 91.2 % on validation).",
            "facts": {"epochs": 12, "best_epoch": 11, "learning_rate": 0.001, "early_stop": False},
            "charts": (
                Chart(
                    title="Loss",
                    kind="line",
                    x_label="epoch",
                    y_label="cross-entropy",
                    x=tuple(range(1, epochs + 1)),
                    series=(
                        Series(name="training", values=tuple(2.3 * 0.8**epoch for epoch in range(epochs))),
                        Series(name="validation", values=(None, *(2.4 * 0.83**epoch for epoch in range(1, epochs)))),
                    ),
                ),
                Chart(
                    title="Sparsity by layer",
                    kind="bars",
                    x_label="layer",
                    y_label="share of zeros",
                    x=names,
                    series=(Series(name="share of zeros", values=tuple(0.5 + 0.02 * place for place in range(20))),),
                ),
            ),
            "tables": (
                Table(
                    title="Layers",
                    columns=("layer", "weights", "share of zeros", "kept"),
                    rows=tuple((name, 36_864, 0.5 + 0.02 * place, None) for place, name in enumerate(names)),
                ),
            ),
            "notes": ("Zeros buy compressed size; runtimes on CPUs gain no speed from them.",),
        }
        | changed
    )


def report(**changed: object) -> Report:
    return Report(
        **{
            "name": "edge build 12",
            "job": "job_01890f2ac1b47000a1b2c3d4e5f60718",
            "recipe_sha256": DIGEST,
            "seed": 0,
            "verdict": "improved",
            "model": ModelSummary(format="pt2", sha256=DIGEST, bytes=44_700_000, parameters=11_689_512, nodes=69),
            "machine": Machine(
                cpu="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
                cpu_flags=("avx2", "avx512f", "avx512_vnni", "amx_int8"),
                cores=2,
                memory_bytes=25_276_502_016,
                system="Linux 6.18 x86_64",
                versions={"python": "3.11.7", "onnxruntime": "1.31.1", "torch": "2.13.0+cpu"},
            ),
            "steps": (
                StepReport(
                    type="quantize.static",
                    seconds=8.4,
                    summary="Measured the ranges of 49 tensors on 512 rows.",
                    facts={"observer": "minmax", "per_channel": True},
                ),
            ),
            "targets": (target(),),
            "seconds": 41.7,
        }
        | changed
    )
