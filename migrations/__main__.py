"""`python -m migrations`: bring the database of `PARE_DATABASE_URL` up to date."""

from app.settings import Settings
from migrations import upgrade

upgrade(Settings().database)
