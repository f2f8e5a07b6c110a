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
@pytest.mark.parametrize("sockets", [False, True])
def test_every_named_call_is_refused_and_others_pass(name: str, column: int, audit: int, sockets: bool) -> None:
    code = program(name, sockets=sockets)
    refused = {numbers[column] for numbers in REFUSED.values()} - {None}
    special = {56: 0, 220: 0, 435: 0, 41: 0, 198: 0, 53: 0, 199: 0, 302: 0, 261: 0}
    for number in range(500):
        if number not in special:
            expected = ERRNO | errno.EPERM if number in refused else ALLOW
            assert run(code, number, audit, 1, 2, 3) == expected, number


@pytest.mark.parametrize(
    ("name", "audit", "clone", "make_socket", "pair", "prlimit"),
    [("x86_64", X86_64, 56, 41, 53, 302), ("aarch64", AARCH64, 220, 198, 199, 261)],
)
def test_some_calls_depend_on_their_arguments(name, audit, clone, make_socket, pair, prlimit) -> None:
    refused = ERRNO | errno.EPERM
    for sockets in (False, True):
        code = program(name, sockets=sockets)
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


def test_calls_by_another_architectures_numbers_end_the_process() -> None:
    x86_64, aarch64 = program("x86_64", sockets=True), program("aarch64", sockets=True)
    assert run(x86_64, 1, I386) == KILL
    assert run(x86_64, 0x4000_0000 + 1, X86_64) == KILL  # x32
    assert run(x86_64, 0xFFFF_FFFF, X86_64) == KILL
    assert run(aarch64, 1, ARM) == KILL
    assert run(aarch64, 1, X86_64) == KILL


def test_a_program_is_within_the_kernels_bounds() -> None:
    for name in ("x86_64", "aarch64"):
        length = len(program(name, sockets=True))
        assert length % ctypes.sizeof(ctypes.c_uint64) == 0
        assert length // 8 <= 4096  # BPF_MAXINSNS
