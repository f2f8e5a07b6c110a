"""How memory and disk that ran out show themselves, and the typed failure that says so."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from modelpress.spec.failure import CompressionError, OutOfDisk, OutOfMemory

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch's allocator on the CPU raises a plain RuntimeError.
_MEMORY_TEXTS = ("can't allocate memory", "DefaultCPUAllocator", "out of memory", "std::bad_alloc", "bad allocation")


def exhaustion(
    error: BaseException, doing: str, *, step: int | None = None, advice: str = ""
) -> CompressionError | None:
    """The typed failure when `error` means that memory or disk ran out while `doing`, else None.

    `advice` is what to do about memory, for the place where it happened.
    """
    if isinstance(error, OSError) and error.errno in _DISK:
        return OutOfDisk(
            f"the disk of the work folder is full, or the job's limit on it is reached, while {doing}; "
            "free space, or raise the limit",
            step=step,
        )
    of_gpu = isinstance(error, torch.OutOfMemoryError)
    if isinstance(error, BatchTooLarge):
        advice, of_gpu = error.advice, error.of_gpu
    elif not ran_out_of_memory(error):
        return None
    where = "the GPU's memory" if of_gpu else "memory"
    return OutOfMemory(
        f"{where} ran out while {doing}; {advice or 'use a machine with more memory'}",
        step=step,
    )


class BatchTooLarge(Exception):
    """Memory ran out in a training; `advice` says which batch would fit."""

    def __init__(self, advice: str, *, of_gpu: bool) -> None:
        super().__init__(advice)
        self.advice = advice
        self.of_gpu = of_gpu  # which can be tried again with less: torch's allocator there takes nothing it cannot have


def ran_out_of_memory(error: BaseException) -> bool:
    """True when `error` means that memory ran out, of the machine or of a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MEMORY_TEXTS)


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more: behind an error that is caught, whole batches."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def naming(doing: str, *, step: int | None = None, advice: str = "") -> Iterator[None]:
    """Give memory or disk that ran out inside its type, and every typed error the step that it happened in."""
    try:
        yield
    except CompressionError as error:
        if error.step is None:
            error.step = step
        raise
    except Exception as error:
        typed = exhaustion(error, doing, step=step, advice=advice)
        if typed is None:
            raise
        raise typed from error
