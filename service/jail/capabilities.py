"""Capabilities: what root may do beyond other users, of which an engine needs none (capabilities(7))."""

from __future__ import annotations

import errno

from service.jail.machine import prctl

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# Else root could not read files that another user keeps to himself, a checkout say: Landlock says which it may read.
_CAP_DAC_OVERRIDE = 1


def drop() -> None:
    """Take all but that one from what this process starts, which then cannot raise its limits either.

    It holds from the next execve on. Nothing to do for other users, who have none. Raises OSError.
    """
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
