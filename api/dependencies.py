"""What routes are given: the parts of the service, and who is calling."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.changes import Watch
from api.metrics import Metrics
from api.refusals import MissingScope, NoKey, OtherMediaType
from db.database import Database
from db.queries.teams import find_key, touch_key
from service.settings import Settings
from service.wakeup import Wakeup
from storage.store import Store

_TOUCH_SECONDS = 60

log = structlog.get_logger("api.dependencies")

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="`Authorization: Bearer mp_...`. On the embedded default the key is in the file `api-key` of the data "
    "folder. Scope `read` looks, scope `write` uploads, submits, cancels and deletes.",
)


@dataclass(frozen=True)
class Services:
    """The parts of the service that one application uses; made at its start, closed at its end."""

    settings: Settings
    database: Database
    store: Store
    wakeup: Wakeup
    metrics: Metrics
    watch: Watch
    # Key to the moment its use was last noted, by this process's clock: one write a minute, not one a request.
    touched: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """Who calls: a team, by one of its keys."""

    team_id: str
    key_id: str
    scopes: frozenset[str]


async def get_services(request: Request) -> Services:
    """The application's parts. Asynchronous, as `require` is, for that costs no way through a thread."""
    services: Services = request.app.state.services
    return services


ServicesParam = Annotated[Services, Depends(get_services)]


def authenticate(
    request: Request,
    services: ServicesParam,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Who calls; looked up once a request. Raises NoKey."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    if credentials is None:
        raise NoKey("this needs an API key: send `Authorization: Bearer mp_...`")
    with services.database.session(read_only=True) as session:
        key = find_key(session, credentials.credentials)
    if key is None:
        raise NoKey("the API key is not known, or was revoked: check it, or ask for a new one")
    request.state.team_id = key.team_id
    now = time.monotonic()
    if now - services.touched.get(key.id, -_TOUCH_SECONDS) >= _TOUCH_SECONDS:
        services.touched[key.id] = now
        # Behind the answer, whatever it is: what a leaked key tries in vain is a use, too.
        request.state.afterwards = partial(_note_use, services.database, key.id)
    caller = Caller(team_id=key.team_id, key_id=key.id, scopes=frozenset(key.scopes))
    request.state.caller = caller
    return caller


class KeyFirst(APIRoute):
    """A route with a body in JSON: FastAPI would read it, and take it apart, before it asks who calls."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def handle_known(request: Request) -> Response:
            await run_in_threadpool(authenticate, request, await get_services(request), await _bearer(request))
            return await handle(request)

        return handle_known


def _note_use(database: Database, key_id: str) -> None:
    try:
        with database.session() as session:
            touch_key(session, key_id)
    except SQLAlchemyError as error:
        log.warning("use of a key not noted", key_id=key_id, error=type(error).__name__)


def _require(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    async def require(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        if scope not in caller.scopes:
            raise MissingScope(
                f"this needs a key with the scope `{scope}`; this one has {', '.join(sorted(caller.scopes))}"
            )
        return caller

    return require


Reader = Annotated[Caller, Depends(_require("read"))]
Writer = Annotated[Caller, Depends(_require("write"))]


def require_json(request: Request) -> None:
    """Raises OtherMediaType unless the body is declared as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise OtherMediaType(
            f"the body is declared as {kind or 'nothing'}; send JSON as `Content-Type: application/json`"
        )
