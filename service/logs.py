"""Logs of every process of the service: one line an event, on standard error, with the ids that it is about.

Bind ids with `structlog.contextvars.bound_contextvars(request_id=..., job_id=..., attempt=...)`: every line logged
within carries them, whichever library writes it.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog

from service.settings import Settings

# Libraries that tell every step of their own at INFO.
_TALKATIVE = ("celery.worker.strategy", "celery.app.trace", "kombu", "httpx", "alembic.runtime.migration", "amqp")

# Characters that lay out a traceback.
_OF_TRACEBACKS = "\n\t"


def configure_logs(settings: Settings, component: str) -> None:
    """Send all logs of this process (structlog's and the standard library's) to standard error in one format.

    `component` names the process in every line: `api`, `worker.jobs`, `worker.inspections`, `serve`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _Component(component),
        _drop_color_message,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    # Tracebacks without the values of variables: those may be secrets.
    final: list[structlog.typing.Processor]
    if settings.log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        final = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    else:
        final = [
            _escape,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_escaped_traceback),
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Uvicorn brings handlers of its own; a request is logged once, by the API, with its ids.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    quiet = max(logging.WARNING, root.level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quiet)


def _drop_color_message(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # Uvicorn says everything twice
    return event


class _Component:
    """Adds the process's name to every line."""

    def __init__(self, component: str) -> None:
        self._component = component

    def __call__(
        self, _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("component", self._component)
        return event


def _escape(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Nothing that anybody sends reaches a terminal as a command to it, or makes a line that looks like another's."""
    return {_escaped(key): _escaped_value(key, value) for key, value in event.items()}


def _escaped_value(key: str, value: object) -> object:
    if key == "exc_info":
        return value  # see _escaped_traceback
    if key in ("exception", "stack"):
        return _escaped(str(value), kept=_OF_TRACEBACKS)
    if key == "event":
        return _escaped(str(value))
    if (value if isinstance(value, str) else repr(value)).isprintable():
        return value
    return _Shown(_escaped(repr(value)))


class _Shown:
    """A value that is printed as this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _escaped_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    out.write(_escaped(text.getvalue(), kept=_OF_TRACEBACKS))


def _escaped(text: str, kept: str = "") -> str:
    """Controls, separators of lines and what turns the direction of writing, as Python would write them in a string."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)
