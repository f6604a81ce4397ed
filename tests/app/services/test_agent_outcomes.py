"""What an agent says of an attempt fits the database."""

import pytest
from pydantic import ValidationError

from app.services.agents import MOST_ATTEMPTS, Outcome


@pytest.mark.parametrize("attempt", [0, MOST_ATTEMPTS + 1, 2**63])
def test_attempts_that_no_column_holds_are_refused(attempt: int) -> None:
    with pytest.raises(ValidationError, match="attempt"):
        Outcome.model_validate({"attempt": attempt, "failure": {"code": "agent.failed", "detail": "It broke."}})


def test_the_last_attempt_is_taken() -> None:
    outcome = Outcome.model_validate(
        {"attempt": MOST_ATTEMPTS, "failure": {"code": "agent.failed", "detail": "It broke."}}
    )

    assert outcome.attempt == MOST_ATTEMPTS
