"""`pare-agent enrol`, `pare-agent run`, `pare-agent facts`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from pathlib import Path

from pare_agent import __version__
from pare_agent.agent import Agent
from pare_agent.cache import Cache
from pare_agent.client import Client, Insecure, Refused, Unreachable
from pare_agent.facts import facts, memory_bytes
from pare_agent.process import Bounds
from pare_agent.state import Enrolment, NotEnrolled

log = logging.getLogger(__name__)

STATE = Path(os.environ.get("STATE_DIRECTORY") or "~/.local/state/pare-agent")
"""systemd names the directory that it made for a service."""
STANDARD_INPUT = ("-",)
"""In place of a token: where it is not seen in the list of processes."""
MIB = 1 << 20
MEMORY_SHARE = 0.75


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        status: int = options.command(options)
        return status
    except (Insecure, NotEnrolled, Refused, Unreachable) as error:
        print(f"pare-agent: {error}", file=sys.stderr)
        return 1


def enrol(options: argparse.Namespace) -> int:
    """Use a token up and keep the credential."""
    token = sys.stdin.readline().strip() if options.token in STANDARD_INPUT else options.token
    client = Client(options.server, allow_http=options.allow_http, ca_file=options.ca_file)
    made = client.post("/agents/enrol", {"token": token, "facts": facts()})
    if made is None:
        raise Unreachable("The service answered nothing.")
    kept = Enrolment(options.server, made["id"], made["credential"], options.allow_http, options.ca_file)
    kept.save(options.state)
    print(f"enrolled as {made['id']} ({made['name']})")
    return 0


def run(options: argparse.Namespace) -> int:
    """Take tasks until told to stop."""
    enrolment = Enrolment.load(options.state)
    client = Client(enrolment.server, enrolment.credential, allow_http=enrolment.allow_http, ca_file=enrolment.ca_file)
    if not facts()["runtimes"]:
        print("pare-agent: no runtime is installed: pip install 'pare-agent[onnx]' or [litert]", file=sys.stderr)
        return 1
    interpreter = tuple(shlex.split(options.interpreter)) if options.interpreter else (sys.executable,)
    cache = Cache(options.state / "files", options.cache_mib * MIB)
    bounds = Bounds(options.memory_mib * MIB, interpreter)
    log.info("%s asks %s for work", enrolment.agent, enrolment.server)
    Agent(client, cache, options.state / "work", bounds).serve()
    return 0


def show(_: argparse.Namespace) -> int:
    """Print what the agent tells the service of this device."""
    print(json.dumps(facts(), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("pare-agent", description="Measures models on this device for a Pare service.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="enrol | run | facts")
    enrolling = commands.add_parser("enrol", help="make this device known to a service, with a one-time token")
    enrolling.set_defaults(command=enrol)
    enrolling.add_argument("--server", required=True, help="https://… of the service")
    enrolling.add_argument("--token", required=True, help="from POST /agents/tokens; '-' reads it from standard input")
    enrolling.add_argument("--ca-file", help="certificates to trust instead of the system's (PEM)")
    enrolling.add_argument("--allow-http", action="store_true", help="plain HTTP to another machine, on your own risk")
    running = commands.add_parser("run", help="take tasks until SIGTERM")
    running.set_defaults(command=run)
    running.add_argument(
        "--memory-mib",
        type=_positive,
        default=int(memory_bytes() * MEMORY_SHARE) // MIB,
        help="of a task (%(default)s)",
    )
    running.add_argument("--cache-mib", type=_positive, default=2048, help="of downloaded files (%(default)s)")
    running.add_argument("--interpreter", help="command that runs Python for a task, such as 'taskset -c 3 python3'")
    for command in (enrolling, running):
        command.add_argument("--state", type=_directory, default=_directory(str(STATE)), help="(%(default)s)")
    commands.add_parser("facts", help="print what a service is told of this device").set_defaults(command=show)
    return parser


def _directory(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
