"""What a request costs, and how soon a job starts.

Requests go over one kept connection to an API process of its own (SQLite, Redis, no worker), in blocks that take turns;
the cost is that process's CPU time, beside that of `GET /livez`, which touches nothing. Jobs are submitted in one block
of 200 behind them; their cost includes the message that the dispatcher sends for each. The start is the time in the
job's row from queued to running on the embedded broker, over twenty tiny jobs. A child is what a job runs in: the time
from asking for one to its first line, forked and confined.
"""

import http.client
import json
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np
import psutil

from bench.harness.client import Client, connected
from bench.harness.figures import Figure
from bench.harness.scene import Scene
from bench.harness.service import Service, alone, embedded
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.runtime.orders import prepare
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners

ROUNDS, BLOCK = 10, 200
STARTS = 20
DISPATCHED_SECONDS = 5
"""After this the messages of all jobs were sent."""
GIB = 1 << 30
Cost = tuple[float, float]
"""CPU seconds of the server and wall seconds for one request."""


def tell(scene: Scene) -> list[Figure]:
    scene.say("requests in turns")
    with alone(scene.folder / "api") as service, connected(service.url) as client:
        costs = request_costs(service, submission(client, scene.folder), scene.pick(ROUNDS, 2), scene.pick(BLOCK, 20))
    scene.say("starting tiny jobs")
    with embedded(scene.folder / "embedded") as service, connected(service.url) as client:
        waits = starts(client, submission(client, scene.folder), scene.pick(STARTS, 3))
    scene.say("forking children")
    children = first_lines(scene.folder / "children", scene.pick(STARTS, 3))
    return [
        *request_figures(costs),
        Figure("POST /jobs to running, embedded: median", median(waits), "ms", None, min(waits), max(waits)),
        Figure("child, fork to first line: median", median(children), "ms", None, min(children), max(children)),
    ]


def submission(client: Client, folder: Path) -> dict[str, object]:
    """A job on the smallest model there is."""
    model, data = folder / "tiny.onnx", folder / "tiny.npz"
    model.write_bytes(onnx_classifier())
    data.write_bytes(npz_bytes())
    dataset = client.upload("datasets", data)
    return {
        "model": client.upload("models", model),
        "data": {"test": dataset},
        "evaluate": {"latency": {"runs": 20, "budget_s": 0.2}},
    }


def request_costs(service: Service, spec: dict[str, object], rounds: int, block: int) -> dict[str, list[Cost]]:
    """Costs of each kind of request, one entry for each round; the kinds take turns."""
    where = urlsplit(service.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    process, body = psutil.Process(service.pid), json.dumps(spec).encode()
    _, answer = _sent(connection, "POST", "/jobs", body)
    kinds = {
        "GET /livez": ("GET", "/livez", None),
        "GET /jobs/{id}": ("GET", f"/jobs/{json.loads(answer)['id']}", None),
        "POST /jobs/validate": ("POST", "/jobs/validate", body),
    }
    costs: dict[str, list[Cost]] = defaultdict(list)
    for _ in range(rounds):
        for name, request in kinds.items():
            _sent(connection, *request)
            cpu, wall = _cpu(process), time.perf_counter()
            for _ in range(block):
                _sent(connection, *request)
            costs[name].append(((_cpu(process) - cpu) / block, (time.perf_counter() - wall) / block))
    cpu, wall = _cpu(process), time.perf_counter()
    for _ in range(block):
        _sent(connection, "POST", "/jobs", body)
    wall = time.perf_counter() - wall
    time.sleep(DISPATCHED_SECONDS)
    costs["POST /jobs"].append(((_cpu(process) - cpu) / block, wall / block))
    connection.close()
    return costs


def request_figures(costs: dict[str, list[Cost]]) -> list[Figure]:
    """CPU for each request, its ratio to the one that does nothing, and requests in a second on one connection."""
    cpu = {name: np.array([cost for cost, _ in rounds]) for name, rounds in costs.items()}
    nothing = cpu["GET /livez"].mean()
    rows = []
    for name, rounds in costs.items():
        rates = [1 / wall for _, wall in rounds]
        rows += [
            Figure(f"{name}: CPU", 1000 * cpu[name].mean(), "ms"),
            Figure(f"{name}: CPU / that of GET /livez", cpu[name].mean() / nothing),
            Figure(f"{name}: rate, one connection", median(rates), "1/s", None, *_range(rates)),
        ]
    return [row for row in rows if row.name != "GET /livez: CPU / that of GET /livez"]


def _range(values: list[float]) -> tuple[float | None, float | None]:
    """The smallest and the largest of several values."""
    return (min(values), max(values)) if len(values) > 1 else (None, None)


def starts(client: Client, spec: dict[str, object], count: int) -> list[float]:
    """Milliseconds from queued to running, by the database's clock, of jobs submitted one after the other."""
    ended = [client.finished(client.submit(spec)) for _ in range(count)]
    return [1000 * (_moment(job["started_at"]) - _moment(job["created_at"])).total_seconds() for job in ended]


def first_lines(folder: Path, count: int) -> list[float]:
    """Milliseconds from asking for a child to the first line it says; the first child is not counted."""
    folder.mkdir()
    waits: list[float] = []
    entry = "bench.harness.first_line:say"
    with JobSandbox(folder / "scratch", sandbox="best-effort", threads=1, entry=entry) as job_sandbox:
        for number in range(count + 1):
            said: list[float] = []
            asked = time.perf_counter()
            job_sandbox.run(
                prepare(folder / f"job-{number}"),
                Limits(wall_s=60, memory_bytes=4 * GIB, file_bytes=GIB),
                Listeners(on_log=lambda _, said=said: said.append(time.perf_counter())),  # type: ignore[misc]
            )
            waits.append(1000 * (said[0] - asked))
    return waits[1:]


def _sent(connection: http.client.HTTPConnection, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    connection.request(verb, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise ConnectionError(f"{verb} {path}: {answer.status} {content[:500]!r}")
    return answer.status, content


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
