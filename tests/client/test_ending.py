"""Programs end by `kill`, or with their terminal, as by Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.service import child_environment

CODE = """
import os, signal, sys, time
from modelpress.client.ending import end_as_by_ctrl_c
end_as_by_ctrl_c()
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    for number in (signal.SIGTERM, signal.SIGHUP) if sys.argv[1:] else ():
        os.kill(os.getpid(), number)
    print("in good order")
"""


@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, ()), (signal.SIGTERM, ("x",)), (signal.SIGHUP, ("x",))])
def test_all_signals_to_end_are_one(number: int, again: tuple[str, ...]) -> None:
    """And when they come again, the end is still in good order."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *again], env=child_environment(), stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "ready\n"
        it.send_signal(number)
        assert it.communicate(timeout=60)[0] == "in good order\n"


def test_what_is_ignored_goes_on_being_ignored() -> None:
    command = ["nohup", sys.executable, "-c", CODE]
    with subprocess.Popen(
        command,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "ready\n"
        it.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            it.wait(0.5)
        it.send_signal(signal.SIGTERM)
        assert it.communicate(timeout=60)[0] == "in good order\n"
