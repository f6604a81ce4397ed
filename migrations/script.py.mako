"""${message}.

Rules: forward only; a lock that is not had in five seconds fails the migration (env.py); rewriting a large
table or adding an index goes in steps that do not block readers; the old code must run on the new schema.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
