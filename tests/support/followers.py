"""Real followers, each a process that meets this one over gloo, for trainings that are led from a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from modelpress.engine.ranks.follower import follow
from modelpress.engine.ranks.group import end_process, joined
from modelpress.engine.ranks.leader import Leader

CPU = torch.device("cpu")


@contextmanager
def leading(folder: Path, followers: int = 1) -> Iterator[Leader]:
    """This process as the leader of so many others; they have ended well when the context is over."""
    size = followers + 1
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.followers", str(folder / "meeting"), str(rank), str(size)]
        )
        for rank in range(1, size)
    ]
    try:
        with joined(folder / "meeting", 0, size, CPU) as group:
            leader = Leader(group)
            yield leader
            leader.dismiss()
        assert [process.wait(60) for process in processes] == [0] * followers
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process in processes:
            process.kill()
            process.wait()


def main(meeting: str, rank: str, size: str) -> None:
    torch.set_num_threads(1)
    with joined(Path(meeting), int(rank), int(size), CPU) as group:
        follow(group)
    end_process(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
