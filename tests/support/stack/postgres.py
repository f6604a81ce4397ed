"""A PostgreSQL cluster of the tests' own: never as root, nothing synced to disk, trusting the loopback interface."""

import os
import pwd
import secrets
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.stack.missing import ServerMissing, program
from tests.support.stack.process import Process, as_user, free_ports, user_group

INSTALL = "apt-get install postgresql (macOS: brew install postgresql)"
OWNER = "pare"
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=32MB", "max_connections=200")


class PostgresServer:
    """Makes a cluster below `folder` and runs it; `stop` and `start` keep its databases and its port."""

    def __init__(self, folder: Path) -> None:
        self._bin = _programs()
        self._folder = folder
        self._user = _unprivileged_user()
        (self.port,) = free_ports(1)
        folder.chmod(0o700)
        if self._user is not None:
            os.chown(folder, self._user, user_group(self._user))
        self._process: Process | None = None
        self._initdb()
        self.start()

    def start(self) -> None:
        """Run the server, if it is not running, and wait until it answers."""
        if self._process is not None:
            return
        settings = [*FAST, "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}"]
        options = [word for setting in settings for word in ("-c", setting)]
        command = [self._bin / "postgres", "-D", self._folder / "data", "-p", str(self.port), *options]
        self._process = Process(command, log=self._folder / "postgres.log", user=self._user)
        self._process.wait_until(self._answers)

    def stop(self) -> None:
        """Stop the server; open connections are cut."""
        if self._process is not None:
            self._process.stop(signal.SIGINT)
            self._process = None

    def url(self, database: str) -> str:
        """Return SQLAlchemy's URL of the database."""
        return f"postgresql+psycopg://{OWNER}@127.0.0.1:{self.port}/{database}"

    def create(self, *, template: str = "template0") -> str:
        """Create a database and return its name; `template` may be one that has no connections."""
        name = f"test_{secrets.token_hex(8)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, name: str) -> None:
        """Drop the database and cut whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=OWNER, dbname="postgres", autocommit=True, connect_timeout=5
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _initdb(self) -> None:
        words = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={OWNER}"]
        made = subprocess.run(
            [self._bin / "initdb", *words, "-D", self._folder / "data"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            **as_user(self._user),
        )
        if made.returncode:
            raise ServerMissing(f"initdb failed: {made.stderr.strip()}")


def reachable_folder() -> Path:
    """Make a temporary folder that a user without rights of root's can get to."""
    base = Path(tempfile.gettempdir()).resolve()
    open_to_all = all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents))
    return Path(tempfile.mkdtemp(prefix="pare-postgres-", dir=base if open_to_all or os.geteuid() else "/tmp"))


def _programs() -> Path:
    """Return the folder that has initdb and postgres: Debian and Homebrew keep both out of PATH."""
    usual = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/opt/homebrew/opt").glob("postgresql*/bin")]
    usual += [*Path("/usr/local/opt").glob("postgresql*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    newest_first = sorted(usual, key=lambda folder: [int(d) for d in _digits(folder)], reverse=True)
    return program("initdb", folders=[*newest_first, *_configured()], install=INSTALL).resolve().parent


def _digits(folder: Path) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in str(folder)).split()


def _configured() -> list[Path]:
    try:
        said = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(said.stdout.strip())]


def _unprivileged_user() -> int | None:
    """Return the user to run as, None where this process is not root."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise ServerMissing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
