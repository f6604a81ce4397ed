"""`python -m worker` serves one queue; `python -m worker embedded` adds the service and the broker."""

import argparse
import sys

from app.errors import PareError
from app.logging import configure
from app.settings import load


def main() -> None:
    """Read the command line and serve; a configuration that cannot work is one clear line and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=["queue", "embedded"], default="queue")
    mode = parser.parse_args().mode
    try:
        settings = load()
        configure(settings.log_format)
        if mode == "embedded":
            from worker.runtime.embedded import serve  # uvicorn and the service: not for a plain worker
        elif settings.embedded:
            sys.exit("PARE_BROKER_URL is memory://, which reaches no other process: run `python -m worker embedded`.")
        else:
            from worker.runtime.standalone import serve
        serve(settings)
    except PareError as error:
        sys.exit(f"{error.detail} {error.remedy}")


if __name__ == "__main__":
    main()
