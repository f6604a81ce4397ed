"""`python -m migrations`: bring the database of `PARE_DATABASE_URL` up to date."""

import sys

from app.settings import SettingsInvalid, load
from migrations import upgrade

try:
    upgrade(load().database)
except SettingsInvalid as error:
    sys.exit(error.explanation)
