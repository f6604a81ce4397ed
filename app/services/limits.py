"""A result that is not what its owner demanded: a limit is missed, or a target is missing."""

from app.errors import PareError
from app.spec.failure import Failure
from app.spec.report import Report


class LimitsMissed(PareError):
    """The result misses one of the limits the job demands; report and artifacts are kept for inspection."""

    code, status = "limits.missed", 422
    remedy = "Read the report; then relax the limit, skip the most sensitive layers, or use a gentler recipe."


class TargetsMissing(PareError):
    """One of the job's targets could not be delivered; the others are, and report and artifacts are kept."""

    code, status = "targets.missing", 422
    remedy = "Read the report for each target's reason; leave the target out, or follow the remedy it names."


def shortfall(report: Report) -> Failure | None:
    """What keeps the job from having succeeded: limits that any target misses, else targets that are not there."""
    missed = [f"{target.target.label}: {sentence}" for target in report.targets for sentence in target.missed_limits]
    missing = [f"{failure.target.label}: {failure.detail}" for failure in report.failures]
    for sentences, error in ((missed, LimitsMissed), (missing, TargetsMissing)):
        if sentences:
            return Failure.of(error("; ".join(sentences)))
    return None
