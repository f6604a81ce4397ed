"""What targets make of a model's operators: kept where a worker found it out before, else a worker is asked."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy.orm import Session

from app.db import compatibilities, uploads, workers
from app.db.database import Database
from app.db.states import LIVE
from app.db.tables import Job, Model, Worker
from app.ids import NotFound, parse
from app.services.errors import TargetUnknown
from app.spec.compatibility import OWN, Compatibilities, Compatibility, CompatibilityWanted
from app.spec.failure import TOOLCHAIN_MISSING, Failure
from app.spec.targets import TARGETS, AnyTarget

TRIED_AGAIN = timedelta(minutes=10)
"""A look that failed is begun anew by whoever asks after this."""

Status = Literal["ready", "pending", "failed", "unavailable"]


@dataclass(frozen=True)
class Known:
    """What is known of one target; `error` says why it is not, and what to do."""

    target: AnyTarget
    status: Status
    table: Compatibility | None = None
    error: Failure | None = None


class CompatibilityService:
    """Answers from what workers found out; `wake` tells the dispatcher that one was asked."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake

    def of(self, tenant: str, public_id: str, targets: Sequence[AnyTarget]) -> list[Known]:
        """What each target makes of a model; what nobody knows yet is asked of a worker. Raises `NotFound`."""
        uuid = parse("mdl", public_id)
        with self._database.read() as session:  # most answers are known, and reading holds up nobody
            looks = _looks(session, uploads.of(session, Model, tenant, uuid), targets)
            known = [table for look in looks for table in look.known()]
        if any(look.is_new for look in looks):
            with self._database.write() as session:
                looks = _looks(session, uploads.of(session, Model, tenant, uuid, lock="use"), targets)
                known = [table for look in looks for table in look.known(begin=True)]
            self._wake()
        places = {target: place for place, target in enumerate(targets)}
        return sorted(known, key=lambda table: places[table.target])


def _looks(session: Session, model: Model | None, targets: Sequence[AnyTarget]) -> list["_Look"]:
    if model is None:
        raise NotFound("There is no such model.")
    alive = workers.alive(session)
    return [_Look(session, model, alive, group) for group in _by_look(targets)]


def named(text: str | None) -> tuple[AnyTarget, ...]:
    """The targets of a format or with a label; all of them for None. Raises `TargetUnknown`."""
    every = [target for kind in TARGETS for target in kind.variants()]
    targets = tuple(target for target in every if text in (None, target.label, target.kind()))
    if not targets:
        raise TargetUnknown(f"There is no target {text!r}.")
    return targets


def _by_look(targets: Sequence[AnyTarget]) -> Iterator[tuple[tuple[AnyTarget, ...], tuple[AnyTarget, ...]]]:
    """What is asked for, and all that one look finds out: every variant of a format, or one unusual target."""
    for kind in dict.fromkeys(type(target) for target in targets):
        usual, wanted = kind.variants(), [target for target in targets if type(target) is kind]
        if common := tuple(target for target in wanted if target in usual):
            yield common, usual
        yield from (((target,), (target,)) for target in wanted if target not in usual)


class _Look:
    """One look: targets of one format, at one model."""

    def __init__(
        self,
        session: Session,
        model: Model,
        alive: Sequence[Worker],
        look: tuple[tuple[AnyTarget, ...], tuple[AnyTarget, ...]],
    ) -> None:
        self._asked, every = look
        self._wanted = CompatibilityWanted(targets=every)
        self._needs = every[0].toolchain
        self._alive = alive
        self._session, self._model = session, model
        text = json.dumps([model.sha256, self._wanted.model_dump(mode="json")], sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self.is_new = False
        """Whether none was begun that will be of use."""

    def known(self, *, begin: bool = False) -> list[Known]:
        """What a worker found out, or where that stands; with `begin`, a new look is queued."""
        job = compatibilities.newest(self._session, self._model, self._key)
        if job is not None and job.state == "succeeded" and self._is_fresh(job):
            tables = {table.target: table for table in Compatibilities.model_validate(job.report).tables}
            return [Known(target, "ready", tables[target]) for target in self._asked]
        if job is not None and job.state in LIVE:
            return self._all("pending")
        if job is not None and job.state == "failed" and _age(job) < TRIED_AGAIN:
            return self._all("failed", Failure.model_validate(job.error))
        if self._alive and self._rests_on() is None:
            return self._all("unavailable", _nobody(self._needs or OWN))
        self.is_new = True
        if begin:
            compatibilities.begin(self._session, self._model, self._wanted, self._key)
        return self._all("pending")

    def _all(self, status: Status, error: Failure | None = None) -> list[Known]:
        return [Known(target, status, error=error) for target in self._asked]

    def _rests_on(self) -> frozenset[str] | None:
        """What live workers would base an answer on; None if none of them could give one."""
        fingerprints = [row.facts.get("knowledge", {}).get(self._needs or OWN) for row in self._alive]
        return frozenset(fingerprint for fingerprint in fingerprints if fingerprint) or None

    def _is_fresh(self, job: Job) -> bool:
        """Whether some live worker would say the same; without any, what was once found out is the best there is."""
        now, report = self._rests_on(), cast(dict[str, Any], job.report)
        return now is None or report.get("knowledge") in now


def _age(job: Job) -> timedelta:
    return datetime.now(UTC) - job.finished_at if job.finished_at else timedelta()


def _nobody(name: str) -> Failure:
    return Failure(
        code=TOOLCHAIN_MISSING,
        detail=f"No live worker has the toolchain {name}.",
        remedy=f"Install it on a worker: python -m worker toolchains install {name}.",
    )
