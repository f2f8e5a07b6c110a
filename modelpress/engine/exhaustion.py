"""How memory and disk that ran out show themselves, and the typed failure that says so."""

from __future__ import annotations

import errno
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
    ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _MEMORY_TEXTS)
    )
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        ran_out = True
    if not ran_out:
        return None
    where = "the GPU's memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    return OutOfMemory(
        f"{where} ran out while {doing}; {advice or 'use a machine with more memory'}",
        step=step,
    )


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
