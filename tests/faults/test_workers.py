"""A job outlives the processes that work on it."""

import os
import signal

from tests.support.installation.cluster import SECONDS, Cluster, child_of, is_gone
from tests.support.installation.waiting import until

SOON = 20


def test_a_killed_child_costs_an_attempt_and_the_job_runs_again(cluster: Cluster) -> None:
    cluster.have_workers(1)
    job = cluster.measuring(SECONDS)
    os.kill(child_of(cluster.owner(job)).pid, signal.SIGKILL)

    ended = cluster.client.wait(job)

    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    assert cluster.row(job).lost == 1
    assert cluster.client.states(job) == ["queued", "running", "queued", "running", "succeeded"]
    assert {artifact.attempt for artifact in cluster.artifact_rows(job)} == {2}


def test_the_last_attempt_ends_typed_and_the_next_job_succeeds(cluster: Cluster) -> None:
    cluster.have_workers(1)
    job = cluster.measuring(max_attempts=1)
    os.kill(child_of(cluster.owner(job)).pid, signal.SIGKILL)

    ended = cluster.client.wait(job, SOON)

    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker.killed")
    assert ended["error"]["remedy"]
    assert cluster.client.wait(cluster.client.submit(cluster.brief()))["status"] == "succeeded"


def test_a_killed_zygote_is_replaced(cluster: Cluster) -> None:
    cluster.have_workers(1)
    job = cluster.measuring(SECONDS)
    child = child_of(cluster.owner(job))
    os.kill(child.ppid(), signal.SIGKILL)

    assert cluster.client.wait(job)["status"] == "succeeded"
    assert cluster.row(job).lost == 1
    assert is_gone(child)


def test_another_worker_finishes_what_a_killed_one_began(cluster: Cluster) -> None:
    cluster.have_workers(2)
    job = cluster.measuring(SECONDS)
    owner = cluster.owner(job)
    family = owner.descendants()
    owner.kill()

    until(lambda: all(map(is_gone, family)), "the killed worker's children to end", SOON)
    ended = cluster.client.wait(job)

    assert len(family) == 2  # the zygote and the job's child
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    row = cluster.row(job)
    assert row.lost == 1
    assert cluster.owner(job) is not owner
    assert [artifact.attempt for artifact in cluster.artifact_rows(job)] == [2, 2]
    assert [one["sha256"] for one in cluster.client.artifacts(job) if one["kind"] == "model"] == [
        row.report["targets"][0]["sha256"]
    ]


def test_what_a_killed_worker_left_on_the_disk_is_deleted_by_the_next(cluster: Cluster) -> None:
    cluster.have_workers(1)
    scratch = cluster.installation.loaded().scratch
    job = cluster.measuring()
    cluster.owner(job).kill()
    left = list(scratch.glob("worker-*/job-*"))
    cluster.client.cancel(job)

    cluster.have_workers(1)

    assert left
    assert not any(folder.exists() for folder in left)
    assert len(list(scratch.glob("worker-*"))) == 1


def test_a_worker_that_slept_past_its_lease_cannot_write(cluster: Cluster) -> None:
    cluster.have_workers(2)
    job = cluster.measuring(SECONDS)
    sleeper = cluster.owner(job)
    sleeper.send(signal.SIGSTOP)
    cluster.client.wait_for_stage(job, "measuring", attempt=2)
    finisher = cluster.owner(job)
    sleeper.send(signal.SIGCONT)

    ended = cluster.client.wait(job)

    until(
        lambda: f"{job}: attempt 1 stopped, fenced" in sleeper.said() or f"{job}: attempt 1 was" in sleeper.said(),
        "the sleeper to give its attempt up",
        SOON,
    )
    assert finisher is not sleeper
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    assert cluster.client.states(job).count("succeeded") == 1
    assert [artifact.attempt for artifact in cluster.artifact_rows(job)] == [2, 2]
    assert f"{job}: attempt 2 delivered" in finisher.said()


def test_a_drained_worker_hands_its_job_over(cluster: Cluster) -> None:
    cluster.have_workers(2)
    job = cluster.measuring(SECONDS | {"budget_s": 8})
    owner = cluster.owner(job)
    owner.send(signal.SIGTERM)

    assert owner.await_end(SOON) == 0
    again = cluster.client.wait_for_stage(job, "", attempt=2, seconds=SOON)
    assert again["attempt"] == 2
    assert cluster.client.wait(job)["status"] == "succeeded"
    assert cluster.row(job).lost == 0  # a drain is nobody's fault
    assert len(cluster.client.get("/readyz")["queues"]["cpu"]) == 1 + _forgotten(cluster)


def test_two_workers_race_and_each_job_runs_once(cluster: Cluster) -> None:
    cluster.have_workers(2)
    submitted = [cluster.client.submit(cluster.brief(seed=seed)) for seed in range(10)]

    for job in submitted:
        assert cluster.client.wait(job)["status"] == "succeeded"
        assert cluster.client.states(job) == ["queued", "running", "succeeded"]
        assert len(cluster.artifact_rows(job)) == 2
    assert len({cluster.row(job).worker for job in submitted}) == 2


def _forgotten(cluster: Cluster) -> int:
    """Killed workers could not sign off; they are listed until they were not heard of for half a minute."""
    alive = {str(worker.pid) for worker in cluster.workers if worker.is_running}
    listed = [one["worker"].split(":")[1] for one in cluster.client.get("/readyz")["queues"]["cpu"]]
    return sum(pid not in alive for pid in listed)
