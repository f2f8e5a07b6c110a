"""Capabilities: what root may do beyond other users, of which an engine needs none (capabilities(7))."""

from __future__ import annotations

import ctypes
import errno
import struct

from service.jail.machine import ARCHITECTURE, IS_LINUX, prctl, system_call

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# Else root could not read files that another user keeps to himself, a checkout say: Landlock says which it may read.
_CAP_DAC_OVERRIDE = 1


# linux/capability.h: _LINUX_CAPABILITY_VERSION_3, and the numbers of capget and capset by architecture
_VERSION = 0x2008_0522
_CAPGET, _CAPSET = {"x86_64": (125, 126)}.get(ARCHITECTURE, (90, 91))


def drop() -> None:
    """Take all but that one from this process and what it starts, which then cannot raise its limits either.

    Nothing to do for other users, who have none. Raises OSError.
    """
    if not IS_LINUX:
        return
    capability = 0
    while True:
        try:
            if prctl(_PR_CAPBSET_READ, capability) and capability != _CAP_DAC_OVERRIDE:
                prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EPERM:  # no right to, hence none to give up: execve with no_new_privs gives none
                break
            if error.errno == errno.EINVAL:  # beyond the last that this kernel knows
                break
            raise
        capability += 1
    try:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux before 4.3 has none of these
            raise
    # What is above holds from the next execve on, and a forked engine makes none.
    header = struct.pack("=Ii", _VERSION, 0)
    # Two of struct __user_cap_data_struct: effective, permitted, inheritable; the low 32 capabilities, then the high.
    data = ctypes.create_string_buffer(24)
    system_call(_CAPGET, header, data)
    effective, permitted, _, *_ = struct.unpack("=6I", data.raw)
    kept = 1 << _CAP_DAC_OVERRIDE
    system_call(_CAPSET, header, struct.pack("=6I", effective & kept, permitted & kept, 0, 0, 0, 0))
