"""Programs that die again and again."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: what stops a supervisor ends every child of its process.
PROGRAM = """
import sys
from service import supervisor
from service.supervisor import KeepsFailing, Program, Supervisor

supervisor.FIRST_PAUSE_SECONDS = 0.01
programs = [
    Program("good one", [sys.executable, "-c", "import time; time.sleep(600)"]),
    Program("bad one", [sys.executable, "-c", "print('began', flush=True); raise SystemExit(7)"]),
]
family = Supervisor(programs, {})
family.start()
try:
    family.watch(lambda: False)
except KeepsFailing as error:
    print(error)
finally:
    import psutil

    alive = len(psutil.Process().children())
    family.stop()
    print(alive, len(psutil.Process().children()))
"""


def test_a_program_that_keeps_dying_ends_all():
    process = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    said = process.stdout.splitlines()
    assert said.count("began") == 5
    assert "bad one ended 5 times in a row, the last time with code 7" in process.stdout
    assert said[-1] == "1 0"
