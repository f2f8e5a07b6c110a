"""What happens around every request: an id, a limit for its body, a line in the log, figures, and a last safety net."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_problem
from api.metrics import Metrics
from api.refusals import BodyTooLarge

REQUEST_ID_HEADER = "X-Request-ID"
JSON_LIMIT_BYTES = 1 << 20
"""Largest body of a request that is no upload, bytes."""

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger("api.access")


class RequestMiddleware:
    """The outermost layer of the application.

    A route that takes more than `JSON_LIMIT_BYTES` says so by `request.state.body_limit = bytes` before it reads. What
    `request.state.afterwards` is set to is called behind the answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = headers.get(REQUEST_ID_HEADER, "")
        if not _SANE_ID.fullmatch(request_id):
            request_id = f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        body = _LimitedBody(receive, state, headers)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, body.receive, send_with_id)
        except Exception as error:
            log.error("unexpected error", exc_info=error)
            if status:
                # The answer has begun: breaking the connection is all that is left to say.
                raise
            await internal_problem(request_id, scope["path"])(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = _template(scope)
            self._metrics.count_request(scope["method"], route, status, seconds, body.size)
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
                body_bytes=body.size,
                team=state.get("team_id"),
            )
            if (afterwards := state.get("afterwards")) is not None:
                await run_in_threadpool(afterwards)


class _LimitedBody:
    """Hands on what is received, until it is more than the limit: at once where the length is declared."""

    def __init__(self, receive: Receive, state: dict[str, object], headers: Headers) -> None:
        self._receive = receive
        self._state = state
        declared = headers.get("content-length", "")
        self._declared = int(declared) if declared.isascii() and declared.isdigit() else 0
        self.size = 0

    async def receive(self) -> Message:
        limit = self._state.get("body_limit", JSON_LIMIT_BYTES)
        assert isinstance(limit, int)  # noqa: S101  # for the type checker: only routes set it
        if self._declared > limit:
            raise BodyTooLarge(limit)
        message = await self._receive()
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            if self.size > limit:
                raise BodyTooLarge(limit)
        return message


def _template(scope: Scope) -> str:
    # The path with names in place of ids, so that there are as many series as there are routes.
    return getattr(scope.get("route"), "path_format", None) or "unmatched"
