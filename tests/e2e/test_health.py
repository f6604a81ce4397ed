"""What an operator sees."""

from tests.support.installation.client import Client, accepted


def test_ready_lists_the_worker_with_its_devices_and_jail(client: Client) -> None:
    ready = accepted(client.http.get("/readyz")).json()

    assert ready["ready"] is True
    assert ready["checks"] == {"database": "ok", "broker": "ok", "storage": "ok", "sweep": "ok"}
    (worker,) = ready["queues"]["cpu"]
    assert worker["devices"][0]
    assert worker["sandbox"]
    assert worker["threads"] == 1
    assert ready["queues"]["cuda"] == []


def test_metrics_count_jobs_and_workers(client: Client) -> None:
    lines = accepted(client.http.get("/metrics")).text.splitlines()

    assert 'pare_workers{queue="cpu"} 1.0' in lines
    assert 'pare_workers{queue="cuda"} 0.0' in lines
    assert any(line.startswith("pare_sweep_age_seconds ") for line in lines)
