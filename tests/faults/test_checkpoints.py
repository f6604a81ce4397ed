"""A long training outlives the process that does it: the next one begins at the epoch that was kept."""

import io
import re
import signal
import warnings

import pytest
import torch
from torch import nn
from torch.export import Dim

from app.db import checkpoints
from tests.support.installation.cluster import Cluster, uuid
from tests.support.installation.jobs import BRIEF
from tests.support.installation.waiting import until
from worker.engine.training.loop import KEEP_SECONDS

EPOCHS = 150
"""Of some 0.2 s each: the state of the training is kept once or twice."""
FIRST_CHECKPOINT_SECONDS = 6 * KEEP_SECONDS


class Wide(nn.Sequential):
    """x [batch, 4] to scores [batch, 3], with work for the CPU in between."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Linear(4, 768),
            nn.ReLU(),
            nn.Linear(768, 768),
            nn.ReLU(),
            nn.Linear(768, 768),
            nn.ReLU(),
            nn.Linear(768, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def exported() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what it calls itself
        shapes = ({0: Dim("batch", min=2, max=4096)},)
        torch.export.save(torch.export.export(Wide().eval(), (torch.zeros(2, 4),), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


def training(cluster: Cluster) -> str:
    """Submit a job that trains for half a minute."""
    model = cluster.client.upload_model(exported(), "wide")
    step = {"type": "finetune", "epochs": EPOCHS, "batch": 2, "learning_rate": 1e-4}
    evaluate = {"metrics": ["top1"], "latency": BRIEF}
    data = {"train": cluster.rows, "test": cluster.rows}
    return cluster.client.submit({"model": model, "data": data, "steps": [step], "evaluate": evaluate})


def await_checkpoint(cluster: Cluster, job: str) -> None:
    def described() -> bool:
        with cluster.database.read() as session:
            return any(one.name.endswith(".json") for one in checkpoints.of(session, uuid(job)))

    until(described, "the training to be kept", FIRST_CHECKPOINT_SECONDS)


def epochs_of_last_attempt(cluster: Cluster, job: str) -> list[int]:
    """The epochs that the progress of the last attempt speaks of."""
    events = cluster.client.events(job)
    begun = max(event.seq for event in events if event.data.get("status") == "running")
    messages = [event.data["message"] for event in events if event.kind == "progress" and event.seq > begun]
    return [int(match[1]) for message in messages if (match := re.match(rf"epoch (\d+) of {EPOCHS}", message))]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "drained"])
def test_a_training_goes_on_at_the_epoch_that_was_kept(cluster: Cluster, end: str) -> None:
    cluster.have_workers(2)
    job = training(cluster)
    await_checkpoint(cluster, job)
    owner = cluster.owner(job)
    owner.send(signal.SIGKILL if end == "killed" else signal.SIGTERM)

    ended = cluster.client.wait(job)

    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    assert cluster.row(job).lost == (1 if end == "killed" else 0)
    log = cluster.client.http.get(f"/jobs/{job}/logs").text
    (went_on,) = re.findall(r"Going on after epoch (\d+)", log)
    assert int(went_on) > 1
    assert min(epochs_of_last_attempt(cluster, job)) > int(went_on)
    assert cluster.row(job).report["steps"][0]["facts"]["epochs"] == EPOCHS
    with cluster.database.read() as session:
        assert checkpoints.of(session, uuid(job)) == []
