"""How a program that has started others ends, whoever tells it to."""

from __future__ import annotations

import signal
from types import FrameType


def end_as_by_ctrl_c() -> None:
    """Have `kill`, `timeout` and a terminal that closes end this process as Ctrl-C does, so that nothing goes on
    behind it. What it was started to ignore (`nohup`) it goes on ignoring."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
