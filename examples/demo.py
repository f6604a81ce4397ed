"""One real job from end to end, through nothing but the public HTTP API.

    python examples/demo.py                              starts the service itself, on embedded defaults
    python examples/demo.py --url http://127.0.0.1:8000  uses one that runs

Trains and exports a small CNN on scikit-learn's digits, uploads model and data, asks for static int8 for ONNX
Runtime, follows the job, prints what changed and keeps the report and the artifact. The exit code is 0 only if the
gain was real: at most 0.30 of the size, at most 0.3 points of accuracy lost, verdict "improved".
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: more threads are slower on a network this small

import httpx
from digits import export_onnx, save_dataset, train_digits_cnn

from app.report import render_table
from app.spec.report import Report

MAX_SIZE_RATIO = 0.30
MAX_DROP = 0.003
START_SECONDS = 120
JOB_SECONDS = 600
OCTETS = {"Content-Type": "application/octet-stream"}


def main() -> int:
    """Run the job and say whether it was worth it."""
    options = _options()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    print("training a small CNN on scikit-learn's digits ...", flush=True)
    model = train_digits_cnn()
    export_onnx(model, options.output / "digits.onnx")
    save_dataset(options.output / "digits.npz")
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(_service(options.output))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        job = _submit(client, options.output)
        ended = _follow(client, job)
        if ended["status"] != "succeeded":
            error = ended["error"] or {"code": ended["status"], "detail": "", "remedy": ""}
            print(f"\nThe job ended as {error['code']}: {error['detail']} {error['remedy']}", file=sys.stderr)
            return 1
        report = _keep(client, job, options.output)
    print(f"\n{render_table(report)}")
    print(f"report    {options.output / 'report.html'}  (also report.md, report.json)")
    print(f"artifact  {options.output / report.targets[0].artifact}")
    return _judge(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a service that runs; left out: start one")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="a folder to make anew")
    return parser.parse_args()


@contextlib.contextmanager
def _service(output: Path) -> Iterator[str]:
    """Start `python -m worker embedded` on a free port; its log goes to a file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PARE_")}
    environment |= {"PARE_DATA_DIR": str(output / "pare-data"), "PARE_PORT": str(port)}
    with (output / "service.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "worker", "embedded"], env=environment, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(process, url, output)
        print(f"the service runs at {url}", flush=True)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _await(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    sys.exit(f"The service did not start; {output / 'service.log'} says why.")


def _submit(client: httpx.Client, output: Path) -> str:
    splits = {"splits": {"calibration": 0.25, "test": 0.75}, "preprocess": {"image": [{"type": "to_float"}]}}
    model = _upload(client, "/models", output / "digits.onnx", {"name": "digits"})
    data = _upload(client, "/datasets", output / "digits.npz", {"name": "digits", "spec": json.dumps(splits)})
    job = {
        "name": "digits to int8",
        "model": model,
        "data": {"calibration": data, "test": data},
        "steps": [{"type": "quantize.static"}],
        "targets": [{"format": "onnx", "profile": "x86"}],
        "evaluate": {"metrics": ["top1"], "latency": {"batch": [1, 64], "budget_s": 10}},
    }
    answer = client.post("/jobs", json=job, headers={"Idempotency-Key": f"demo-{time.time_ns()}"})
    _require(answer)
    print(f"submitted {answer.json()['id']}", flush=True)
    return str(answer.json()["id"])


def _upload(client: httpx.Client, path: str, file: Path, params: dict[str, str]) -> str:
    with file.open("rb") as body:
        answer = client.post(path, params=params, content=body, headers=OCTETS)
    _require(answer)
    shown = answer.json()
    print(f"uploaded  {shown['id']}  {file.name}, {shown['bytes']:,} bytes", flush=True)
    return str(shown["id"])


def _follow(client: httpx.Client, job: str) -> dict:
    """Print the job's events as they come; returns the job when it has ended."""
    shown = ""
    with client.stream(
        "GET", f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}, timeout=JOB_SECONDS
    ) as feed:
        for line in feed.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["kind"] == "progress" and event["data"]["stage"] != shown:
                shown = event["data"]["stage"]
                print(f"  {event['data']['fraction']:4.0%}  {shown}", flush=True)
            elif event["kind"] == "state":
                print(f"  job {event['data']['status']}", flush=True)
    return client.get(f"/jobs/{job}").json()


def _keep(client: httpx.Client, job: str, output: Path) -> Report:
    """Save the report in its three forms and every artifact; returns the report."""
    for name, media_type in {"html": "text/html", "md": "text/markdown", "json": "application/json"}.items():
        answer = client.get(f"/jobs/{job}/report", headers={"Accept": media_type})
        _require(answer)
        (output / f"report.{name}").write_bytes(answer.content)
    for artifact in client.get(f"/jobs/{job}/artifacts").json():
        content, path = f"/artifacts/{artifact['id']}/content", output / artifact["name"]
        with client.stream("GET", content, follow_redirects=True) as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)
    return Report.model_validate_json((output / "report.json").read_bytes())


def _judge(report: Report) -> int:
    (target,) = report.targets
    drop = target.metrics[0].drop
    if report.verdict == "improved" and target.size.ratio <= MAX_SIZE_RATIO and drop <= MAX_DROP:
        return 0
    print(
        f"\nNot good enough: verdict {report.verdict}, {target.size.ratio:.2f} of the size (at most {MAX_SIZE_RATIO}), "
        f"{drop * 100:.2f} points lost (at most {MAX_DROP * 100:.1f}).",
        file=sys.stderr,
    )
    return 1


def _require(answer: httpx.Response) -> None:
    if answer.is_error:
        problem = answer.json()
        sys.exit(f"{problem['code']}: {problem['detail']} {problem['remedy']}")


if __name__ == "__main__":
    sys.exit(main())
