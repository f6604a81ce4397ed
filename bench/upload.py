"""Large uploads in little memory.

An uncompressed 2 GiB `.npz` of float32 is made while it is sent to `POST /datasets`, and again in parts of 64 MiB
through `POST /uploads`. The service runs in a process of its own (`python -m app`, local folder) whose resident memory
is looked at two hundred times a second. Rates are from the first byte to the answer: received, hashed, every value
checked, stored durably.
"""

import time

from bench.harness.client import Client, connected
from bench.harness.figures import Figure, at_most
from bench.harness.memory import MB, Resident, watching
from bench.harness.npz_stream import NpzStream
from bench.harness.scene import Scene
from bench.harness.service import alone

FULL, SHORT = 2 << 30, 256 << 20
GROWTH_MB = 150


def tell(scene: Scene) -> list[Figure]:
    content = NpzStream.of(scene.pick(FULL, SHORT))
    rows = [Figure("size of the file", len(content), "bytes")]
    with alone(scene.folder) as service, connected(service.url) as client:
        client.delete("datasets", whole(client, NpzStream.of(1)))  # what is imported at the first request stays
        for name, send in (("one body", whole), ("64 MiB parts", in_parts)):
            scene.say(f"sending {len(content):,} bytes, {name}")
            started = time.monotonic()
            with watching(service.pid) as seen:
                dataset = send(client, content)
            rows += figures(name, seen, len(content) / MB / (time.monotonic() - started))
            client.delete("datasets", dataset)
    return rows


def whole(client: Client, content: NpzStream) -> str:
    """Send the file as one body; the id of the data set."""
    return client.send("datasets", iter(content), length=len(content), name="large")


def in_parts(client: Client, content: NpzStream) -> str:
    """Send the file part by part, one after the other; the id of the data set."""
    opened = client.begin({"kind": "dataset", "name": "large", "bytes": len(content)})
    slots, runs = opened["parts"], content.parts(opened["part_bytes"])
    etags = [client.send_part(slot["url"], run, slot["bytes"]) for slot, run in zip(slots, runs, strict=True)]
    return client.complete(opened["id"], etags)


def figures(name: str, seen: Resident, rate: float) -> list[Figure]:
    """Rows for one way of sending."""
    return [
        Figure(f"{name}: memory before", seen.before / MB, "MB"),
        Figure(f"{name}: peak above that", seen.growth_mb, "MB", at_most(GROWTH_MB)),
        Figure(f"{name}: left above that", (seen.after - seen.before) / MB, "MB"),
        Figure(f"{name}: rate", rate, "MB/s"),
    ]
