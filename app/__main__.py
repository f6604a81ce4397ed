"""`python -m app`: the service without a worker. `python -m worker embedded` runs both in one process."""

import sys

from app.api.app import create_app, require_loopback
from app.api.components import Components
from app.api.server import serve
from app.errors import PareError
from app.logging import configure
from app.settings import load


def main() -> None:
    """Serve until told to stop; a configuration that cannot work is one clear line and exit code 1."""
    try:
        settings = load()
        configure(settings.log_format)
        require_loopback(settings)
        if settings.embedded:
            sys.exit("PARE_BROKER_URL is memory://, which reaches no other process: run `python -m worker embedded`.")
        app = create_app(Components.build(settings))
    except PareError as error:
        sys.exit(error.explanation)
    serve(app, settings)


if __name__ == "__main__":
    main()
