"""The processes of one job as they speak to each other: the leader, rank 0, and those that follow it.

Tensors on a GPU go through NCCL, everything else through gloo, both over the loopback interface; the ranks find each
other by a file. Nobody waits by the clock: a rank that dies is noticed by its peers' connections and by the launcher,
which ends all of them, and a job that stands still is ended by its time limit.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

# While the leader factorizes or verifies, its followers wait for as long as that takes.
_PATIENCE = timedelta(days=7)
_LOOPBACK = ("lo", "lo0")  # Linux, macOS


class RankLost(Exception):
    """Another rank is gone: whatever ended it is the reason to tell, not this."""


@dataclass(frozen=True)
class Group:
    """This process among the `size` processes of a job."""

    rank: int
    size: int
    device: torch.device  # where this rank trains

    def broadcast(self, tensor: Tensor) -> None:
        """The leader's `tensor` to all, in place. Raises RankLost."""
        with _noticing_losses():
            dist.broadcast(tensor, 0)

    def add_up(self, tensor: Tensor) -> None:
        """The sum of all ranks' `tensor` to the leader, in place; what the others hold is of no use afterwards.

        Raises RankLost.
        """
        with _noticing_losses():
            dist.reduce(tensor, 0)

    def send(self, message: object) -> None:
        """Leader: give each follower a copy of `message`, its tensors on the follower's device. Raises RankLost."""
        file = io.BytesIO()
        torch.save(message, file)
        packed = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
        self.broadcast(torch.tensor([len(packed)]))
        self.broadcast(packed)

    def receive(self) -> Any:
        """Follower: the leader's next message. Raises RankLost."""
        length = torch.zeros(1, dtype=torch.int64)
        self.broadcast(length)
        packed = torch.empty(int(length), dtype=torch.uint8)
        self.broadcast(packed)
        # Networks and losses as they are in the leader, a process of ours on this machine that started with us.
        return torch.load(io.BytesIO(packed.numpy().data), map_location=self.device, weights_only=False)


@contextmanager
def joined(meeting: Path, rank: int, size: int, device: torch.device) -> Iterator[Group]:
    """Meet the other ranks at the file `meeting`, and leave them at the end. Raises RankLost.

    After an error they are not left: a connection that closes ends the job, and first the reason has to be recorded.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name in _LOOPBACK), None)
    if loopback is not None:
        # Else both would look the host's name up, and listen where other machines can reach them.
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    with _noticing_losses():
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=_PATIENCE)
    yield Group(rank, size, device)
    dist.destroy_process_group()


def end_process(code: int) -> NoReturn:
    """End a process that has met others, at once.

    At the interpreter's own end gloo's threads may still be at work, which now and then aborts a process that has done
    all it had to ("terminate called without an active exception"), and would make a failure of a job that succeeded.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _noticing_losses() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    # Neither backend has a class of its own for a connection that broke.
    except RuntimeError as error:
        raise RankLost(f"another process of this job is gone: {error}") from error
