"""`python -m worker` serves one queue; `embedded` adds the service and the broker; `run` does one job from files.

`toolchains` lists and installs the converters and runtimes that have environments of their own.
"""

import argparse
import sys
from pathlib import Path

from app.errors import PareError
from app.logging import configure
from app.settings import Settings, load
from worker.engine.toolchains.environments import NAMES, Environments
from worker.runtime.installing import install, show


def main() -> None:
    """Read the command line and obey; what cannot work is one clear line and exit code 1."""
    options = _options()
    try:
        settings = load()
        if options.mode == "run":
            sys.exit(_run(options, settings))
        if options.mode == "toolchains":
            _toolchains(options, settings)
            return
        configure(settings.log_format)
        _serve(options.mode, settings)
    except PareError as error:
        sys.exit(error.explanation)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    modes = parser.add_subparsers(dest="mode")
    modes.add_parser("queue", help="serve the queue PARE_QUEUE (the default)")
    modes.add_parser("embedded", help="service, broker and worker in one process")
    run = modes.add_parser("run", help="do one job, described by a file")
    run.add_argument("job", type=Path, help="JSON: the body of POST /jobs, with paths instead of ids")
    run.add_argument("--out", type=Path, default=Path("pare-out"), help="folder for artifacts and report")
    toolchains = modes.add_parser("toolchains", help="list the toolchains, or install them")
    toolchains.add_argument("action", nargs="?", choices=["list", "install"], default="list")
    toolchains.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    return parser.parse_args()


def _serve(mode: str | None, settings: Settings) -> None:
    if mode == "embedded":
        from worker.runtime.embedded import serve  # uvicorn and the service: not for a plain worker
    elif settings.embedded:
        sys.exit("PARE_BROKER_URL is memory://, which reaches no other process: run `python -m worker embedded`.")
    else:
        from worker.runtime.standalone import serve
    serve(settings)


def _toolchains(options: argparse.Namespace, settings: Settings) -> None:
    environments = Environments(settings.toolchains_dir)
    if unknown := set(options.names) - set(NAMES):
        sys.exit(f"There is no toolchain {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
    if options.action == "install":
        install(options.names or NAMES, environments, settings.debian_mirror)
    show(environments)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from worker.runtime.local import refused, run_file  # the service's checks, which no other worker needs

    try:
        return run_file(options.job, options.out, settings)
    except PareError as error:
        sys.exit(refused(error))


if __name__ == "__main__":
    main()
