"""Linux's system calls by number, for what the C library has no function for. The standard library alone."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

PR_SET_NO_NEW_PRIVS = 38

IS_LINUX = sys.platform == "linux"
ARCHITECTURE = platform.machine()


def system_call(number: int, *arguments: object) -> int:
    """Raises OSError with the kernel's reason."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, value: int, further: bytes | None = None) -> int:
    """Linux's prctl(2), where `further` is a pointer; nothing elsewhere. Raises OSError."""
    if not IS_LINUX:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.prctl(option, ctypes.c_ulong(value), further, ctypes.c_ulong(0), ctypes.c_ulong(0))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def forbid_new_privileges() -> None:
    """No set-user-id program gives this process or what it starts more rights than it has. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
