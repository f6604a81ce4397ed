"""A result that misses what its owner demanded."""

from app.errors import PareError
from app.spec.report import Report
from app.spec.work import Failure


class LimitsMissed(PareError):
    """The result misses one of the limits the job demands; report and artifacts are kept for inspection."""

    code, status = "limits.missed", 422
    remedy = "Read the report; then relax the limit, skip the most sensitive layers, or use a gentler recipe."


def missed_limits(report: Report) -> Failure | None:
    """Collect the limits that any target misses."""
    sentences = [
        f"{target.target.format}/{target.target.profile}: {missed}"
        for target in report.targets
        for missed in target.missed_limits
    ]
    if not sentences:
        return None
    return Failure(code=LimitsMissed.code, detail="; ".join(sentences)[:2000], remedy=LimitsMissed.remedy)
