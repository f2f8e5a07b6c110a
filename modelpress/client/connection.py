"""HTTP to one service: the key in every request, retries where a repeat is harmless, problems as errors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import ValidationError

import modelpress
from modelpress.client.address import Address
from modelpress.client.errors import ApiError, ConnectionFailed
from modelpress.spec.resources import Problem

# The service may be restarting: about eight seconds in all, unless it asks for more, then the caller hears of it.
RETRY_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)
LONGEST_RETRY_AFTER = 30.0
# Too many requests, or nobody home behind the front door: the request was not carried out.
RETRY_STATUSES = frozenset({429, 502, 503, 504})
# Nothing was sent yet, so that a repeat is harmless whatever the request.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Request:
    """One request to the service."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: Iterable[bytes] | None = None
    # Seconds without a byte after which the connection counts as lost; None for the client's own.
    read_timeout: float | None = None
    # True when doing it twice does no more than doing it once.
    repeatable: bool = True


class Connection:
    """A pool of connections to one service.

    Requests that may be repeated are, on a lost connection and on 429, 502, 503 and 504: five times within about eight
    seconds, or as much later as the service's `Retry-After` asks for.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.url = address.url
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=address.url,
            timeout=timeout,
            headers={
                "Authorization": f"Bearer {address.key}",
                "User-Agent": f"modelpress/{modelpress.__version__}",
            },
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, request: Request) -> httpx.Response:
        """The whole answer, read. Raises ApiError for a refusal, ConnectionFailed when there is no answer."""
        response, _ = self._answer(request, stream=False)
        _require_success(response)
        return response

    def delete(self, path: str) -> None:
        """Delete what is at `path`. Raises ApiError for a refusal, ConnectionFailed when there is no answer."""
        response, was_lost = self._answer(Request("DELETE", path), stream=False)
        # What is not there was deleted by an earlier try, whose answer was lost.
        if not (was_lost and response.status_code == httpx.codes.NOT_FOUND):
            _require_success(response)

    @contextmanager
    def stream(self, request: Request) -> Iterator[httpx.Response]:
        """An answer whose body is still to be read; reading it raises httpx's own errors when the connection breaks.

        Raises ApiError for a refusal, ConnectionFailed when there is no answer.
        """
        response, _ = self._answer(request, stream=True)
        try:
            _require_success(response)
            yield response
        finally:
            response.close()

    def _answer(self, request: Request, *, stream: bool) -> tuple[httpx.Response, bool]:
        """The answer, its body read unless it is to `stream`; and whether that to an earlier try was lost."""
        was_lost = False
        for delay in (*RETRY_DELAYS, None):
            try:
                response = self._http.send(self._build(request), stream=stream)
            except NOT_SENT as error:
                if delay is None:
                    raise self._unreachable(error) from error
            except httpx.TransportError as error:
                if delay is None or not request.repeatable:
                    raise self._lost(error) from error
                was_lost = True
            else:
                if delay is None or not request.repeatable or response.status_code not in RETRY_STATUSES:
                    return response, was_lost
                delay = max(delay, _retry_after(response))
                response.close()
            time.sleep(delay)
        raise AssertionError("the last round either answers or raises")

    def _build(self, request: Request) -> httpx.Request:
        timeout = httpx.Timeout(self._timeout, read=request.read_timeout or self._timeout)
        return self._http.build_request(
            request.method,
            request.path,
            params=request.params,
            headers=request.headers,
            json=request.json,
            content=request.content,
            timeout=timeout,
        )

    def _unreachable(self, error: Exception) -> ConnectionFailed:
        return ConnectionFailed(f"no service answers at {self.url} ({_reason(error)}); is it running?")

    def _lost(self, error: Exception) -> ConnectionFailed:
        return ConnectionFailed(f"the connection to {self.url} broke ({_reason(error)}); try again")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_RETRY_AFTER) if value.isdigit() else 0.0


def _require_success(response: httpx.Response) -> None:
    if response.status_code >= 300 and response.status_code != httpx.codes.NOT_MODIFIED:
        raise _refusal(response)


def _refusal(response: httpx.Response) -> ApiError:
    try:
        body = response.read()
        return ApiError(Problem.model_validate_json(body))
    except (httpx.TransportError, ValidationError):
        # Not our service's own words: a proxy in between, or an answer that was cut off.
        detail = f"{response.request.url.path} answered {response.status_code} {response.reason_phrase}"
        if response.is_redirect:  # which is not followed: what was sent may be an upload
            detail += f": the service is at {response.headers.get('Location')}, give that as its address"
        return ApiError(
            Problem(type="about:blank", title=response.reason_phrase, status=response.status_code, detail=detail)
        )
