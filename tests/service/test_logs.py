"""Logs of a process: one format, with the ids of what they are about."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from service.logs import configure_logs
from service.settings import Settings
configure_logs(Settings(log_format={format!r}, log_level="INFO"), "worker.jobs")
with structlog.contextvars.bound_contextvars(job_id="job_1", attempt=2):
    structlog.stdlib.get_logger("ours").info("claimed", seconds=0.5)
    logging.getLogger("theirs").warning("slow by %d s", 3)
logging.getLogger("theirs").info("after")
logging.getLogger("theirs").debug("not wanted")
logging.getLogger("celery.app.trace").info("not wanted")
logging.getLogger("uvicorn.access").info("not wanted")
try:
    password = "hush"
    1 / 0
except ZeroDivisionError:
    structlog.stdlib.get_logger("ours").exception("broke")
"""


def _lines(log_format: str) -> list[str]:
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=log_format)], capture_output=True, text=True, check=True
    )
    assert program.stdout == ""
    assert "ZeroDivisionError" in program.stderr
    assert "hush" not in program.stderr
    return program.stderr.splitlines()


def test_a_line_of_json_carries_the_ids_whoever_logs():
    ours, theirs, after, broke = map(json.loads, _lines("json"))
    assert {**ours, "timestamp": ""} == {
        "event": "claimed",
        "seconds": 0.5,
        "job_id": "job_1",
        "attempt": 2,
        "component": "worker.jobs",
        "level": "info",
        "logger": "ours",
        "timestamp": "",
    }
    assert (theirs["event"], theirs["level"], theirs["job_id"]) == ("slow by 3 s", "warning", "job_1")
    assert "job_id" not in after
    assert broke["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_lines_for_people_carry_them_too():
    lines = _lines("console")
    assert "claimed" in lines[0]
    assert "job_id=job_1" in lines[0]
    assert "slow by 3 s" in lines[1]
    assert not [line for line in lines if "not wanted" in line]
