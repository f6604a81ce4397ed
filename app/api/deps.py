"""What routes ask for: the service's parts, the caller, the page wanted."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request

from app.api.components import Components
from app.api.errors import RequestInvalid
from app.ids import NotFound, Prefix, parse
from app.services.agents import Agents as AgentService
from app.services.jobs import Jobs as JobService
from app.services.library import Library as LibraryService
from app.services.uploads import Uploads as UploadService
from app.spec.base import LABEL_NAME, LABEL_VALUE

ONLY_TENANT = "default"
"""Until there are API keys everybody on this machine is the same caller; the queries already filter by tenant."""
MAX_PAGE = 200


@dataclass(frozen=True)
class Caller:
    """Who is asking."""

    tenant: str


def _components(request: Request) -> Components:
    services: Components = request.app.state.components
    return services


def _caller() -> Caller:
    return Caller(ONLY_TENANT)


Services = Annotated[Components, Depends(_components)]
RequestCaller = Annotated[Caller, Depends(_caller)]


def _library(services: Services) -> LibraryService:
    return services.library


def _uploads(services: Services) -> UploadService:
    return services.uploads


def _jobs(services: Services) -> JobService:
    return services.jobs


def _agents(services: Services) -> AgentService:
    return services.agents


Agents = Annotated[AgentService, Depends(_agents)]
Library = Annotated[LibraryService, Depends(_library)]
Uploads = Annotated[UploadService, Depends(_uploads)]
Jobs = Annotated[JobService, Depends(_jobs)]


def _labels(
    label: Annotated[
        list[str] | None,
        Query(max_length=32, description="`name:value`; repeat for several.", examples=[["team:edge"]]),
    ] = None,
) -> dict[str, str]:
    labels = {}
    for pair in label or ():
        name, colon, value = pair.partition(":")
        if not colon or not LABEL_NAME.fullmatch(name) or not LABEL_VALUE.fullmatch(value):
            raise RequestInvalid("A label is written name:value.", pointer="query/label")
        labels[name] = value
    return labels


LabelQuery = Annotated[dict[str, str], Depends(_labels)]


@dataclass(frozen=True)
class PageQuery:
    """Which page of a list."""

    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50
    after: Annotated[str | None, Query(max_length=64, description="The `next` of the page before.")] = None

    def cursor(self, prefix: Prefix) -> UUID | None:
        """Read `after`; something that is no id of this kind is an invalid request."""
        if self.after is None:
            return None
        try:
            return parse(prefix, self.after)
        except NotFound as error:
            raise RequestInvalid("This is not the `next` of a page.", pointer="query/after") from error


Page = Annotated[PageQuery, Depends()]
