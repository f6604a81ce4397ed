"""Health checks of the images: `health.py api` asks /livez, `health.py worker` whether the database heard of us."""

import os
import socket
import sys
import urllib.request


def api_answers() -> bool:
    """Whether the API in this container serves requests."""
    port = os.environ.get("PARE_PORT", "8000")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=4) as answer:
        return answer.status == 200


def worker_reports() -> bool:
    """Whether this container's worker wrote its sign of life lately: one that hangs, or lost its database, did not."""
    from app.db import workers
    from app.db.database import Database
    from app.settings import Settings

    database = Database(Settings().database)
    with database.read() as session:
        return any(worker.id.startswith(f"{socket.gethostname()}:") for worker in workers.alive(session))


CHECKS = {"api": api_answers, "worker": worker_reports}

if __name__ == "__main__":
    sys.exit(0 if CHECKS[sys.argv[1]]() else "unhealthy")
