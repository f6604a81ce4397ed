"""What must work for jobs to be taken, and the figures an operator watches."""

from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from app.db import agent_tasks, agents, jobs, workers
from app.db.database import Database
from app.errors import PareError
from app.queue import Publisher
from app.queue.publisher import QUEUES
from app.services.sweep import RECOVERY
from app.settings import Settings
from app.storage import Store

LATE_SWEEPS = 4
"""The sweep is late when it has not run for so many of its periods: lost jobs would stay `running`."""


def checks(database: Database, publisher: Publisher, store: Store, settings: Settings) -> dict[str, str]:
    """Try each dependency; "ok" or what is wrong, without secrets."""
    states = {
        "database": _try(database.check),
        "broker": _try(publisher.check),
        "storage": _try(store.check),
    }
    if states["database"] == "ok":
        age = sweep_age_s(database)
        late = age is not None and age > LATE_SWEEPS * settings.sweep_s
        states["sweep"] = f"last ran {age:.0f} s ago" if late else "ok"
    return states


def queues(database: Database) -> dict[str, list[dict[str, Any]]]:
    """List the live workers of each queue with their devices and jail."""
    live: dict[str, list[dict[str, Any]]] = {queue: [] for queue in QUEUES}
    with database.read() as session:
        for row in workers.alive(session):
            live.setdefault(row.queue, []).append({"worker": row.id, **row.facts})
    return live


def sweep_age_s(database: Database) -> float | None:
    """Seconds since the last sweep of any process; None before the first."""
    with database.read() as session:
        ran, now = workers.last_run(session, RECOVERY)
    return None if ran is None else (now - ran).total_seconds()


def metrics(database: Database) -> bytes:
    """Write the gauges, read from the database at this moment: the same from every replica."""
    registry = CollectorRegistry()
    by_state = Gauge("pare_jobs", "Jobs by state and queue.", ["state", "queue"], registry=registry)
    alive = Gauge("pare_workers", "Live workers by queue.", ["queue"], registry=registry)
    age = Gauge("pare_sweep_age_seconds", "Seconds since the last sweep.", registry=registry)
    devices = Gauge("pare_agents", "Device agents: enrolled, and seen lately.", ["state"], registry=registry)
    tasks = Gauge("pare_agent_tasks", "Unfinished tasks of device agents by state.", ["state"], registry=registry)
    with database.read() as session:
        enrolled, seen = agents.counts(session)
        devices.labels("enrolled").set(enrolled)
        devices.labels("seen").set(seen)
        counts = dict(agent_tasks.counts(session))
        for unfinished in agent_tasks.UNFINISHED:
            tasks.labels(unfinished).set(counts.get(unfinished, 0))
        for state, queue, count in jobs.counts(session):
            by_state.labels(state, queue).set(count)
        for queue in QUEUES:
            alive.labels(queue).set(workers.serving(session, queue))
    age.set(sweep_age_s(database) or 0.0)
    return generate_latest(registry)


def _try(check: Any) -> str:
    try:
        check()
    except PareError as error:
        return error.detail
    return "ok"
