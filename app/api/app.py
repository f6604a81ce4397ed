"""The application: routes, middleware, error answers, and the periodic tasks that live as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from app import __version__
from app.api import problems
from app.api.components import Components
from app.api.errors import BindForbidden
from app.api.middleware import AllowedHosts, BodyLimit, RequestContext, SameSite
from app.api.openapi import document
from app.api.routes import agents, artifacts, catalogue, datasets, docs, health, jobs, models, uploads
from app.settings import LOOPBACK_HOSTS, Settings


def create_app(components: Components) -> FastAPI:
    """Make the application around its parts; starting it starts the dispatcher and the sweeper."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        components.start()
        yield
        await run_in_threadpool(components.stop)

    app = FastAPI(
        title="Pare",
        version=__version__,
        lifespan=lifespan,
        summary="Makes neural networks smaller and faster, and proves it.",
        redirect_slashes=False,
        strict_content_type=True,
        docs_url=None,
        redoc_url=None,
    )
    app.state.components = components
    problems.install(app)
    for resource in (models, datasets, uploads, jobs, artifacts, agents, catalogue, health, docs):
        app.include_router(resource.router)
    app.mount(docs.STATIC, docs.static_files())
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    app.add_middleware(BodyLimit, limit=components.settings.max_body_bytes, idle_s=components.settings.upload_idle_s)
    app.add_middleware(SameSite)
    app.add_middleware(AllowedHosts, hosts=allowed_hosts(components.settings))
    app.add_middleware(RequestContext)
    return app


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Host names the service answers to."""
    return LOOPBACK_HOSTS | {"[::1]"} | settings.allowed_hosts


def require_loopback(settings: Settings) -> None:
    """Refuse an address other machines can reach; raises `BindForbidden`."""
    if settings.host not in LOOPBACK_HOSTS:
        raise BindForbidden(f"PARE_HOST is {settings.host}, which other machines can reach.")
