"""Logs of a process: one format, with the ids of what they are about."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


# A terminal's title, red, a control of ISO 6429, separators of lines, and what turns the direction of writing.
HOSTILE = "\x1b]0;owned\x07|\x1b[31m|\x9b|\x85|\u2028|\u2029|\u202e|\u2066"
SHOWN = r"\x1b]0;owned\x07|\x1b[31m|\x9b|\x85|\u2028|\u2029|\u202e|\u2066"

SAY_IT = """
import logging, structlog
from service.logs import configure_logs
from service.settings import Settings
configure_logs(Settings(log_format="console", log_level="INFO"), "api")
hostile = {hostile!a}
class Odd:
    def __repr__(self):
        return hostile
log = structlog.stdlib.get_logger("ours")
{statement}
"""


@pytest.mark.parametrize(
    "statement",
    [
        "log.info('request', path='/' + hostile)",
        "log.info('request', path='/two words ' + hostile)",
        "log.info('request', **{hostile: 1})",
        "log.info('request', found={'path': [hostile]})",
        "log.info('request', found=Odd())",
        "log.info('request ' + hostile)",
        "logging.getLogger('theirs').warning('request %s', hostile)",
        "logging.getLogger(hostile).warning('request')",
        "log.info('request', stack=hostile)",
        "log.error('request', exc_info=ValueError(hostile))",
    ],
)
def test_no_command_reaches_a_terminal(statement: str) -> None:
    said = _said(SAY_IT.format(hostile=HOSTILE, statement=statement))
    assert SHOWN in said
    assert [c for c in said if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize("statement", ["log.info('a\\nb\\rc')", "log.info('x', path='a\\nb\\rc')"])
def test_one_event_is_not_two_lines(statement: str) -> None:
    said = _said(SAY_IT.format(hostile="", statement=statement))
    assert r"a\nb\rc" in said
    assert said.count("\n") == 1


def test_plain_values_are_shown_as_they_are() -> None:
    said = _said(SAY_IT.format(hostile="", statement="log.info('grün 1', path='/ü', two='a b', at=(1, 'ä'))"))
    assert "grün 1 " in said
    for shown in ("path=/ü", "two='a b'", "at=(1, 'ä')"):
        assert shown in said


def _said(program: str) -> str:
    environment = {"PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    return done.stderr.decode()
