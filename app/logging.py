"""One line per event, whatever the message holds; as text for people or as JSON for machines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(style: Literal["text", "json"], level: int = logging.INFO) -> None:
    """Send every logger of the process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "kombu", "amqp", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
