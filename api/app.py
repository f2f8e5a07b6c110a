"""The HTTP front end: `uvicorn --factory api.app:create_app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from api.changes import Watch
from api.dependencies import Services
from api.errors import INTERNAL, install_error_handlers, problems
from api.metrics import Metrics
from api.openapi import DESCRIPTION, install_openapi
from api.requests import RequestMiddleware
from api.routes import artifacts, datasets, health, jobs, methods, models, results
from db.database import open_database
from modelpress import __version__
from service.logs import configure_logs
from service.settings import Settings, read_settings
from service.stored_bytes import GRACE_SECONDS
from service.wakeup import Wakeup
from storage.open_store import open_store
from storage.store import StorageError, Store

ROUTERS = (models.router, datasets.router, jobs.router, results.router, artifacts.router, methods.router, health.router)
_SWEEP_SECONDS = 3600.0

log = structlog.get_logger("api.app")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Without settings, those of the process's environment; then logs are set up too.

    Raises service.settings.SettingsError.
    """
    if settings is None:
        settings = read_settings()
        configure_logs(settings, "api")
    # Its page at /docs comes with the package: a network without a way out is where this service often runs.
    app = FastAPIOffline(
        title="ModelPress",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        # A field with a default may be left out of an answer as of a request: one schema for both.
        separate_input_output_schemas=False,
        responses=problems(INTERNAL),
        redoc_url=None,
        # One address for each thing; a redirected upload would be sent twice.
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    for router in ROUTERS:
        app.include_router(router)
    install_error_handlers(app)
    install_openapi(app)
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database = open_database(settings.database_url)
    wakeup = Wakeup(settings)
    store = await run_in_threadpool(
        open_store, settings.store_url, credentials=settings.s3_credentials, spool_folder=settings.home / "spool"
    )
    app.state.metrics.watch(database)
    watch = Watch(database)
    app.state.services = Services(settings, database, store, wakeup, app.state.metrics, watch)
    sweeping = asyncio.create_task(_sweep(store))
    try:
        yield
    finally:
        sweeping.cancel()
        await watch.close()
        wakeup.close()
        database.dispose()


async def _sweep(store: Store) -> None:
    """Remove what processes that were killed in the middle of an upload have left on this machine, now and hourly.

    Workers do so too, but need not run on the machine that uploads come in by.
    """
    while True:
        try:
            await run_in_threadpool(store.sweep, GRACE_SECONDS)
        except (StorageError, OSError) as error:
            log.warning("interrupted uploads not removed", error=str(error))
        await asyncio.sleep(_SWEEP_SECONDS)
