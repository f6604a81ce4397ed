"""What a toolchain's process runs in the tests, in an environment without any package: tasks that try to get out."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType


def say_back(**given):
    return given


def refuse():
    raise Unsuitable("There is no form for aten.fancy.")


def break_down():
    raise ValueError("an error of its own\nin two lines")


def die():
    print("last words", flush=True)
    os.abort()


def hog():
    return {"bytes": len(bytearray(3 << 30))}


def sleep():
    import time

    time.sleep(60)


def environment():
    return dict(os.environ)


def reach(secret, port):
    attempts = {
        "read a secret": lambda: Path(secret).read_bytes(),
        "read the job": lambda: Path("../../order.json").read_bytes(),
        "write to the job": lambda: Path("../../planted").write_text("x"),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=1),
        "run a shell": lambda: subprocess.run(["/bin/sh", "-c", "true"], check=True),
        "leave the group": os.setsid,
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "make a link": lambda: Path("link").symlink_to("/etc"),
    }
    return {name: outcome(attempt) for name, attempt in attempts.items()}


def run_python():
    ran = subprocess.run([sys.executable, "-I", "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
    return {"said": ran.stdout.strip()}


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "succeeded"


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from toolchains.serve import Unsuitable

    from toolchains import serve

    module = ModuleType("toolchains.stand_in")
    module.__dict__.update(globals())
    sys.modules["toolchains.stand_in"] = module
    serve.main("stand_in")
    serve.say({"kind": "done"})
