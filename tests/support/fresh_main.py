"""A server of fresh processes whose `main` does what a test asks for (see tests/engine/test_fresh.py)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from modelpress.engine.fresh import serve

SEEN: list[str] = []


def main(arguments: list[str]) -> int:
    """Write who this is and what was seen before into a file; then end as asked."""
    path, ending = arguments
    SEEN.append(path)
    Path(path).write_text(f"{os.getpid()} {os.getppid()} {len(SEEN)} {sys.stdin.read()!r}")
    match ending:
        case "raise":
            raise ValueError("as asked")
        case "exit":
            sys.exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill the server":
            os.kill(os.getppid(), signal.SIGKILL)
    return int(ending) if ending.isdigit() else 0


if __name__ == "__main__":
    serve(main, answers=int(sys.argv[1]))
