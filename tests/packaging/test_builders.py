"""docker/build-images.sh and docker/lock.sh with programs in place of docker, buildah and pip."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.root import ROOT


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is the whole PATH: what the scripts need, and nothing that builds images."""
    for tool in ("bash", "env", "dirname", "mktemp", "rm", "mv", "grep", "sed", "sort", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    return tmp_path


def install(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def run(programs: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs / "bash"), str(ROOT / "docker" / script), *arguments],
        env={"PATH": str(programs)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_docker_is_used_where_its_engine_answers(programs: Path) -> None:
    install(programs, "docker", '[ "$1" = info ] || echo docker "$@"')
    install(programs, "buildah", "echo buildah")
    built = run(programs, "build-images.sh", "api", "worker", BASE="base:1", TORCH_INDEX="https://wheels.example")
    api, worker = built.stdout.splitlines()
    assert api.startswith("docker build --target api --tag pare-api:latest --build-arg BASE=base:1")
    assert "--target worker" in worker
    assert "--build-arg TORCH_INDEX=https://wheels.example" in worker


def test_buildah_takes_over_and_keeps_health_checks(programs: Path) -> None:
    install(programs, "docker", "exit 1")
    install(programs, "buildah", 'echo buildah "$@"')
    built = run(programs, "build-images.sh", "api", BASE="base:1", BUILDER_FLAGS="--network host").stdout
    assert "--format docker" in built
    assert "--network host" in built


def test_without_a_builder_the_message_names_both(programs: Path) -> None:
    built = run(programs, "build-images.sh", "api", BASE="base:1")
    assert built.returncode == 1
    assert "docker" in built.stderr
    assert "buildah" in built.stderr


def test_the_lock_drops_what_would_tie_it_to_one_machine(programs: Path) -> None:
    pip = r"""printf '#!/bin/sh\n[ "$1" != freeze ] || cat frozen\n' > "$3/bin/pip" """
    install(programs, "python", f'{programs}/mkdir -p "$3/bin"; {pip}; {programs}/chmod +x "$3/bin/pip"')
    for tool in ("mkdir", "chmod"):
        (programs / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    frozen = [
        "zlib-ng==1",
        "torch==2.13.0+cpu",
        "nvidia-cublas==13.1",
        "triton==3.9",
        "-e git+x#egg=pare",
        "Alembic==2",
    ]
    (programs / "frozen").write_text("\n".join(frozen) + "\n")
    out = programs / "constraints.txt"
    locked = subprocess.run(
        [str(programs / "bash"), str(ROOT / "docker" / "lock.sh"), str(out)],
        cwd=programs,
        env={"PATH": str(programs), "PYTHON": "python", "TORCH_PIN": "torch==2.13.0", "TMPDIR": os.fspath(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert locked.returncode == 0, locked.stderr
    assert [line for line in out.read_text().splitlines() if not line.startswith("#")] == [
        "Alembic==2",
        "torch==2.13.0",
        "zlib-ng==1",
    ]
