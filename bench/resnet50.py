"""ResNet-50 to int8 through the service.

torchvision's architecture with random weights is exported to ONNX, uploaded with 48 made-up pictures, quantized by one
`quantize.static` job for profile `x86`, and measured by the service itself at batch 1 and one thread. The artifact is
then downloaded and loaded by ONNX Runtime outside of the service, which writes down the graph it executes.
"""

import json
from collections import Counter
from pathlib import Path

from bench.harness.client import Client, connected
from bench.harness.figures import Figure, at_least, at_most
from bench.harness.scene import Scene
from bench.harness.service import embedded
from bench.harness.subjects import export_network, save_pictures
from tests.support.engine.orders import executed

CONVOLUTIONS = 53
CALIBRATION, TEST = 32, 16
RUNS, BUDGET_SECONDS = 150, 60


def tell(scene: Scene) -> list[Figure]:
    scene.say("exporting resnet50")
    model = export_network("resnet50", scene.folder / "resnet50.onnx")
    data = save_pictures(scene.folder / "pictures.npz", scene.pick(CALIBRATION + TEST, 12))
    with embedded(scene.folder) as service, connected(service.url) as client:
        job = submit(client, model, data, runs=scene.pick(RUNS, 20))
        scene.say("the job runs")
        client.finished(job)
        report, artifact = client.report(job), client.artifact(job, scene.folder)
    (target,) = report.targets
    (speed,), (output,) = target.latency, target.parity
    counted = convolutions(artifact, scene.folder)
    return [
        Figure(
            "speed-up of the median, batch 1, 1 thread",
            speed.speedup,
            "x",
            at_least(2.5),
            speed.speedup_low,
            speed.speedup_high,
        ),
        Figure("latency before, median", speed.before.p50_ms, "ms"),
        Figure("latency after, median", speed.after.p50_ms, "ms"),
        Figure("size after / before", target.size.ratio, "", at_most(0.30)),
        Figure("integer compute operators (report)", target.placement.integer, "", at_least(CONVOLUTIONS)),
        Figure("floating compute operators (report)", target.placement.floating, "", at_most(0)),
        Figure("QLinearConv in the executed graph", counted["QLinearConv"], "", at_least(CONVOLUTIONS)),
        Figure("other convolutions in it", sum(counted.values()) - counted["QLinearConv"], "", at_most(0)),
        Figure("signal to noise of the logits", output.sqnr_db or 0.0, "dB"),
        Figure("job, from opening to report", report.seconds, "s"),
    ]


def submit(client: Client, model: Path, data: Path, *, runs: int) -> str:
    """Upload both files and queue the job; its id."""
    splits = {"splits": {"calibration": CALIBRATION / (CALIBRATION + TEST), "test": TEST / (CALIBRATION + TEST)}}
    dataset = client.upload("datasets", data, spec=json.dumps(splits))
    return client.submit(
        {
            "model": client.upload("models", model),
            "data": {"calibration": dataset, "test": dataset},
            "steps": [{"type": "quantize.static"}],
            "targets": [{"format": "onnx", "profile": "x86"}],
            "evaluate": {"metrics": [], "latency": {"threads": 1, "runs": runs, "budget_s": BUDGET_SECONDS}},
        }
    )


def convolutions(artifact: Path, folder: Path) -> Counter[str]:
    """Convolution operators of the graph that ONNX Runtime executes, whatever they are called."""
    return Counter({name: count for name, count in executed(artifact, folder).items() if "Conv" in name})
