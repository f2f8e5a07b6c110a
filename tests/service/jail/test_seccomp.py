"""The filter's program, run by an interpreter of classic BPF written from bpf(4) for this test."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct

import pytest

from service.jail.seccomp import REFUSED, program

ALLOW, ERRNO, KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
X86_64, AARCH64, I386, ARM = 0xC000_003E, 0xC000_00B7, 0x4000_0003, 0x4000_0028


def run(code: bytes, number: int, architecture: int, *arguments: int) -> int:
    """What the program says of a call."""
    data = struct.pack("=iIQ6Q", number - (number >> 31 << 32), architecture, 0, *(*arguments, *[0] * 6)[:6])
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= value else if_false
        elif operation == 0x06:
            return value
        else:
            raise AssertionError(f"unknown operation {operation:#x}")


@pytest.mark.parametrize(("name", "column", "audit"), [("x86_64", 0, X86_64), ("aarch64", 1, AARCH64)])
@pytest.mark.parametrize("is_open", [False, True])
def test_every_named_call_is_refused_and_others_pass(name: str, column: int, audit: int, is_open: bool) -> None:
    code = program(name, sockets=is_open, memory_files=is_open)
    refused = {numbers[column] for numbers in REFUSED.values()} - {None}
    if not is_open:
        refused.add((319, 279)[column])  # memfd_create
    special = (
        {56, 435, 41, 53, 302, 203, 142, 144, 314, 141, 251},
        {220, 435, 198, 199, 261, 122, 118, 119, 274, 140, 30},
    )
    for number in range(500):
        if number not in special[column]:
            expected = ERRNO | errno.EPERM if number in refused else ALLOW
            assert run(code, number, audit, 1, 2, 3) == expected, number


@pytest.mark.parametrize(
    ("name", "audit", "clone", "make_socket", "pair", "prlimit"),
    [("x86_64", X86_64, 56, 41, 53, 302), ("aarch64", AARCH64, 220, 198, 199, 261)],
)
def test_some_calls_depend_on_their_arguments(name, audit, clone, make_socket, pair, prlimit) -> None:
    refused = ERRNO | errno.EPERM
    for sockets in (False, True):
        code = program(name, sockets=sockets, memory_files=False)
        assert run(code, clone, audit, 0x3D_0F00) == ALLOW  # as glibc makes a thread
        for flag in (0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
            assert run(code, clone, audit, flag | 17) == refused
        assert run(code, 435, audit) == ERRNO | errno.ENOSYS
        assert run(code, pair, audit, socket.AF_UNIX) == ALLOW
        assert run(code, pair, audit, socket.AF_INET) == refused
        assert run(code, prlimit, audit, 0) == ALLOW
        assert run(code, prlimit, audit, 4711) == refused
        for family in range(46):
            wanted = ALLOW if sockets and family in (1, 2, 10, 16) else refused
            assert run(code, make_socket, audit, family) == wanted, family


@pytest.mark.parametrize(
    ("name", "audit", "affinity", "by_process", "priority", "io_priority"),
    [
        ("x86_64", X86_64, 203, (142, 144, 314), 141, 251),
        ("aarch64", AARCH64, 122, (118, 119, 274), 140, 30),
    ],
)
def test_only_ones_own_processors_and_priorities_can_be_set(
    name, audit, affinity, by_process, priority, io_priority
) -> None:
    refused, done_nothing = ERRNO | errno.EPERM, ERRNO
    code = program(name, sockets=True, memory_files=True)
    assert run(code, affinity, audit, 0, 8, 0x7FFF_0000_0000) == ALLOW
    assert run(code, affinity, audit, 4711, 8, 0x7FFF_0000_0000) == done_nothing
    for number in by_process:
        assert run(code, number, audit, 0, 3, 0x7FFF_0000_0000) == ALLOW
        assert run(code, number, audit, 4711, 3, 0x7FFF_0000_0000) == refused
    # which, whose: a process's, a group's, a user's
    assert run(code, priority, audit, 0, 0, 19) == ALLOW
    assert run(code, io_priority, audit, 1, 0, 0x6000) == ALLOW
    for which, whose in ((0, 4711), (1, 0), (1, 4711), (2, 0), (2, 1000)):
        assert run(code, priority, audit, which, whose, 19) == refused
        assert run(code, io_priority, audit, which + 1, whose, 0x6000) == refused
        # The kernel looks at the low half alone.
        assert run(code, priority, audit, which | 1 << 32, whose | 1 << 32, 19) == refused


def test_calls_by_another_architectures_numbers_end_the_process() -> None:
    x86_64, aarch64 = (program(name, sockets=True, memory_files=True) for name in ("x86_64", "aarch64"))
    assert run(x86_64, 1, I386) == KILL
    assert run(x86_64, 0x4000_0000 + 1, X86_64) == KILL  # x32
    assert run(x86_64, 0xFFFF_FFFF, X86_64) == KILL
    assert run(aarch64, 1, ARM) == KILL
    assert run(aarch64, 1, X86_64) == KILL


def test_a_program_is_within_the_kernels_bounds() -> None:
    for name in ("x86_64", "aarch64"):
        length = len(program(name, sockets=True, memory_files=False))
        assert length % ctypes.sizeof(ctypes.c_uint64) == 0
        assert length // 8 <= 4096  # BPF_MAXINSNS
