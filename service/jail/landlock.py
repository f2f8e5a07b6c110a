"""Landlock: which files a process may open, and what it may reach beside them (linux/landlock.h, landlock(7)).

The kernel's version decides what can be forbidden: ABI 1 (Linux 5.13) has files, 2 links across folders, 3 truncation,
4 TCP ports, 5 ioctl on devices, 6 signals and abstract Unix sockets. What it does not know is left out.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from service.jail.machine import IS_LINUX, system_call

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

# By ABI, all rights to files that it can withhold: ABI 1 knows bits 0 to 12.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP_ABI, _BIND_AND_CONNECT_TCP = 4, 0b11
_SCOPE_ABI, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11

_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # all that a rule for a plain file may name
_LIST = _READ_DIR
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# Neither devices nor execution: what is uploaded is data, and nothing that an engine writes is a program.
_WRITE = (
    *(_READ_FILE, _READ_DIR, _WRITE_FILE, _TRUNCATE, _REFER, _REMOVE_DIR, _REMOVE_FILE),
    *(_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM),
)
_USE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV


@dataclass(frozen=True)
class Reach:
    """What stays open; everything else is shut. What is not there is left out."""

    readable: tuple[str, ...] = ()  # files, and folders with all below them: read and executed
    listable: tuple[str, ...] = ()  # folders of which only the names can be seen
    writable: tuple[str, ...] = ()  # folders in which files can be made, changed and read, but not executed
    devices: tuple[str, ...] = ()  # opened for reading and writing, and controlled


def abi() -> int:
    """Version of the kernel's Landlock; 0 where there is none, or it is switched off."""
    if not IS_LINUX:
        return 0
    try:
        return system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except OSError:
        return 0


def restrict(reach: Reach, *, tcp: bool) -> None:
    """Shut this process and all that it starts out of everything else, for good; `tcp` leaves connections open.

    Needs `forbid_new_privileges` before. Signals reach only what was started behind the same wall. Raises OSError.
    """
    version = abi()
    handled = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]
    ports = _BIND_AND_CONNECT_TCP if version >= _TCP_ABI and not tcp else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPE_ABI else 0
    # struct landlock_ruleset_attr, as long as this kernel knows it
    fields = 3 if version >= _SCOPE_ABI else 2 if version >= _TCP_ABI else 1
    attributes = struct.pack(f"={fields}Q", *(handled, ports, scopes)[:fields])
    ruleset = system_call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for paths, rights in (
            (reach.readable, _READ),
            (reach.listable, _LIST),
            (reach.writable, sum(_WRITE)),
            (reach.devices, _USE),
        ):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        system_call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(Path(path), os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what is not there, or not for us, needs no wall
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        if rights:
            # struct landlock_path_beneath_attr, packed
            rule = struct.pack("=Qi", rights, place)
            system_call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)
