"""Memory does not grow with the file."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

LARGE_BYTES = 300 * (1 << 20)
ALLOWED_GROWTH_BYTES = 60 * (1 << 20)

RUN = """
import json, resource, sys
from pathlib import Path
from app.settings import Settings
from app.storage import open_store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

settings, folder, sha256, small_sha256 = json.loads(sys.argv[1])
folder, store = Path(folder), open_store(Settings(**settings))
# Once with next to nothing: what the libraries themselves take is not counted.
store.put("small", folder / "small", sha256=small_sha256, media_type="text/plain")
store.fetch("small", folder / "small copy", sha256=small_sha256)
before = peak()
store.put("large", folder / "large", sha256=sha256, media_type="text/plain")
store.fetch("large", folder / "copy", sha256=sha256)
token = store.begin("parts")
store.write_part("parts", token, 1, folder / "large")
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.real_stack)])
def test_memory_is_flat(kind, request, folder, tmp_path):
    settings = {"storage_url": folder.as_uri()}
    if kind == "s3":
        s3 = request.getfixturevalue("s3")
        settings = s3.settings(s3.new_bucket())
    block, digest = bytes(range(256)) * 4096, hashlib.sha256()
    (tmp_path / "small").write_bytes(block[:100])
    with (tmp_path / "large").open("wb") as file:
        for _ in range(LARGE_BYTES // len(block)):
            file.write(block)
            digest.update(block)
    arguments = [settings, str(tmp_path), digest.hexdigest(), hashlib.sha256(block[:100]).hexdigest()]
    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(arguments)], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < ALLOWED_GROWTH_BYTES
    assert (tmp_path / "copy").stat().st_size == LARGE_BYTES
