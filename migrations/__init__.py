"""The database's history. `python -m migrations` brings the configured database up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def config(url: str) -> Config:
    """Make Alembic's configuration for one database."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = url  # not the config text: a password may hold its escape character
    return made


def upgrade(url: str) -> None:
    """Apply every migration that the database does not have yet."""
    command.upgrade(config(url), "head")
