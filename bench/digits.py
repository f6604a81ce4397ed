"""The demo's network, trained three times.

The small CNN of `make demo` is trained on scikit-learn's digits from three random starts; each goes through the service
as in the demo. Top-1 is taken on images that neither training nor calibration has seen.
"""

import json
from pathlib import Path

import torch

from app.spec.report import Report, TargetReport
from bench.harness.client import Client, connected
from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene
from bench.harness.service import embedded
from examples.digits import export_onnx, save_dataset, train_digits_cnn

SEEDS = (0, 1, 2)


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    data = scene.folder / "digits.npz"
    save_dataset(data)
    with embedded(scene.folder) as service, connected(service.url) as client:
        reports = []
        for seed in scene.pick(SEEDS, SEEDS[:1]):
            scene.say(f"training from seed {seed}")
            model = scene.folder / f"digits-{seed}.onnx"
            export_onnx(train_digits_cnn(seed), model)
            reports.append(quantized(client, model, data, budget_s=scene.pick(10, 2)))
    return figures([report.targets[0] for report in reports])


def quantized(client: Client, model: Path, data: Path, *, budget_s: float) -> Report:
    """The report of the demo's job."""
    spec = {"splits": {"calibration": 0.25, "test": 0.75}, "preprocess": {"image": [{"type": "to_float"}]}}
    dataset = client.upload("datasets", data, spec=json.dumps(spec))
    job = client.submit(
        {
            "model": client.upload("models", model),
            "data": {"calibration": dataset, "test": dataset},
            "steps": [{"type": "quantize.static"}],
            "targets": [{"format": "onnx", "profile": "x86"}],
            "evaluate": {"metrics": ["top1"], "latency": {"batch": [1, 64], "threads": 1, "budget_s": budget_s}},
        }
    )
    client.finished(job)
    return client.report(job)


def figures(targets: list[TargetReport]) -> list[Figure]:
    """Means over the seeds. Both bounds hold for the worst seed, not only for the mean."""
    size = [target.size.ratio for target in targets]
    drop = [100 * target.metrics[0].drop for target in targets]
    return [
        Figure("test images", targets[0].metrics[0].rows),
        Figure.mean_of("size after / before", size),
        Figure("size after / before, worst seed", max(size), "", at_most(0.30)),
        Figure.mean_of("top-1 before", [100 * target.metrics[0].before for target in targets], "%"),
        Figure.mean_of("top-1 after", [100 * target.metrics[0].after for target in targets], "%"),
        Figure.mean_of("top-1 lost", drop, "points"),
        Figure("top-1 lost, worst seed", max(drop), "points", at_most(0.3)),
        *(
            Figure.mean_of(f"speed-up, batch {batch}", [target.latency[place].speedup for target in targets], "x")
            for place, batch in enumerate((1, 64))
        ),
        Figure.mean_of("signal to noise of the logits", [target.parity[0].sqnr_db or 0.0 for target in targets], "dB"),
    ]
