"""Something done with the store that may be walked away from.

A slow upload of a large file takes minutes within one call, which nothing can break off. Meanwhile the job may be
cancelled, which must be final within seconds, or the worker be told to end.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class StoreCall(Generic[Result]):
    """A thread that carries it out. Left alone it comes to its end by itself, and what it made is seen by nobody.

    Bytes that it puts after that are swept with others that no row names; a file that it lays goes nowhere, as its
    folder is gone.
    """

    def __init__(self, action: Callable[[], Result]) -> None:
        """Begin."""
        self._action = action
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="store call", daemon=True
        )
        self._thread.start()

    def ended(self, timeout: float) -> bool:
        """Wait for so long, seconds; True when it has come to its end."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def result(self) -> Result:
        """What it gave, once it has ended. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._action())
        except BaseException as error:  # noqa: BLE001  # it is the caller's, in another thread
            self._error = error
