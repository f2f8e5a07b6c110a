"""What is told of the walls, and what follows where one is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from service.jail import bubblewrap, walls
from service.jail.landlock import Reach
from service.jail.walls import Available, JailUnavailable, Walls, active_walls, available_walls, require
from tests.support.processes import service_environment


def test_walls_come_through_a_command_line_as_they_were() -> None:
    given = Walls(Reach(readable=("/usr", "/with space"), writable=("/ü",), devices=("/dev/null",)), sockets=True)
    assert Walls.read(given.write()) == given


@pytest.mark.parametrize(
    ("devices", "expected"), [((), False), (("/dev/null",), False), (("/dev/null", "/dev/nvidiactl"), True)]
)
def test_memory_files_are_left_to_who_has_gpus(monkeypatch, devices: tuple[str, ...], expected: bool) -> None:
    asked = {}
    monkeypatch.setattr(walls, "available_walls", lambda: Available(0, seccomp=True))
    monkeypatch.setattr(walls.capabilities, "drop", lambda: None)
    monkeypatch.setattr(walls, "forbid_new_privileges", lambda: None)
    monkeypatch.setattr(walls.seccomp, "restrict", lambda **options: asked.update(options))
    Walls(Reach(devices=devices)).close()
    assert asked == {"sockets": False, "memory_files": expected}


@pytest.mark.parametrize(("landlock", "seccomp"), [(0, True), (5, False), (0, False)])
def test_required_refuses_what_auto_goes_without(monkeypatch, landlock: int, seccomp: bool) -> None:
    monkeypatch.setattr(walls.landlock, "abi", lambda: landlock)
    monkeypatch.setattr(walls.seccomp, "is_available", lambda: seccomp)
    assert require("auto") == Available(landlock, seccomp, bubblewrap=bubblewrap.works())
    assert not require("auto").is_complete
    with pytest.raises(JailUnavailable, match="MODELPRESS_JAIL=auto"):
        require("required")


def test_off_uses_nothing() -> None:
    assert active_walls("off") == require("off") == Available(0, seccomp=False)
    assert active_walls("auto") == replace(available_walls(), bubblewrap=bubblewrap.works())


def test_they_are_told_in_words() -> None:
    assert str(Available(7, seccomp=True, bubblewrap=True)) == "Landlock ABI 7, seccomp and Bubblewrap"
    assert str(Available(7, seccomp=True)) == "Landlock ABI 7 and seccomp"
    assert str(Available(0, seccomp=True)) == "seccomp"
    assert str(Available(0, seccomp=False)) == "none"


@pytest.mark.parametrize("module", [["service.serve", "--port", "0"], ["worker", "jobs"]])
def test_service_and_worker_refuse_to_start_without_what_is_required(tmp_path, module) -> None:
    code = (
        "import runpy, sys; from service.jail import landlock; landlock.abi = lambda: 0; "
        f"sys.argv[1:] = {module[1:]!r}; runpy.run_module({module[0]!r}, run_name='__main__', alter_sys=False)"
    )
    environment = service_environment(home=str(tmp_path / "home"), jail="required")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (1, 2)
    assert "MODELPRESS_JAIL=required is set" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "modelpress.db").exists()
