"""A LiteRT file on a device agent: run and timed by the interpreter, in the process that an agent confines it to."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from pare_agent import process

from tests.support.agent.measured import ORDER
from tests.support.target_jobs import Done
from tests.support.toolchains import ENVIRONMENTS

BATCH, ROWS = 4, 10
RUN = """
import json, sys
from pathlib import Path
from pare_agent import process
answer = process.run(json.loads(sys.argv[1]), Path.cwd(), process.Bounds(2 << 30), lambda: False)
print(json.dumps(answer))
"""


@pytest.mark.slow
@pytest.mark.toolchain("litert")
def test_an_agent_runs_a_litert_file(done: Callable[..., Done], digits_folder: Path, tmp_path: Path) -> None:
    exported = done(targets=[{"format": "litert", "batch": BATCH}])
    content = (exported.folder / exported.report.targets[0].artifact).read_bytes()
    with np.load(digits_folder / "digits.npz") as data:
        images = data["image"][:ROWS].astype(np.float32) / 255
    work = tmp_path / "work"
    work.mkdir()
    for role in ("artifact", "baseline"):
        (work / role).write_bytes(content)
    with (work / "rows").open("wb") as file:
        np.savez(file, **{"0/image": images, "timed/image": images[:BATCH]})
    order = ORDER | {"runtime": "litert"}
    ran = subprocess.run(
        [ENVIRONMENTS.folder("litert") / "bin" / "python", "-c", RUN, json.dumps(order)],
        cwd=work,
        env={"PYTHONPATH": str(Path(process.__file__).parents[1])},
        capture_output=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr[-2000:]
    answer = json.loads(ran.stdout)
    assert answer["runtime"].startswith("LiteRT 2.")
    assert answer["batch"] == BATCH
    assert len(answer["after_ns"]) == ORDER["timing"]["runs"]
    session = ort.InferenceSession(digits_folder / "digits.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": images})
    with np.load(work / "outputs.npz") as outputs:
        (name,) = outputs.files
        assert outputs[name].shape == (ROWS, 10)  # the last call was filled up, and cut again
        assert np.abs(outputs[name] - expected).max() < 1e-4
