"""How a program that has started others ends, whoever tells it to."""

from __future__ import annotations

import signal
from types import FrameType

# Windows has no terminals that tell of their end.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def end_as_by_ctrl_c() -> None:
    """Have `kill`, `timeout` and a terminal that closes end this process as Ctrl-C does, so that nothing goes on
    behind it. What it was started to ignore (`nohup`) it goes on ignoring."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Both come twice where a shell passes on what its terminal said: the second must not break off the tidying up.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
