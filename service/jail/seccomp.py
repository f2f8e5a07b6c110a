"""seccomp: which system calls a process may make (seccomp(2)), by a classic BPF program made here.

The program refuses what an engine has no use for and an attacker would have: sockets, io_uring (which would do what
is refused elsewhere), namespaces and mounts, other processes' memory, processors and priorities, the kernel's keys,
modules and clocks, and being told of files that are not its own. Calls by the numbers of another architecture (i386,
x32) end the process: their numbers mean other things.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable

from service.jail.machine import ARCHITECTURE, IS_LINUX, prctl, system_call

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_GET_ACTION_AVAIL = 2

# linux/seccomp.h: what becomes of a call
_KILL_PROCESS, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

# linux/bpf_common.h
_LOAD, _RETURN, _AND = 0x20, 0x06, 0x54  # LD|W|ABS, RET|K, ALU|AND|K
_JUMP_EQUAL, _JUMP_AT_LEAST = 0x15, 0x35  # JMP|JEQ|K, JMP|JGE|K

_X32_BIT = 0x4000_0000

# linux/audit.h, and seccomp(2)'s own number
_ARCHITECTURES = {"x86_64": (0xC000_003E, 317), "aarch64": (0xC000_00B7, 277)}

# Refused whatever their arguments: numbers on x86_64 and aarch64 (None: there is no such call).
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # a second way to open, connect and write, past this filter
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # names of files as they appear, in folders that Landlock lets nobody open
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # memory that no process needs to have mapped, and that nobody counts therefore
    "memfd_secret": (447, 447),
    # memory and queues shared by name with whoever has the same user
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # parts of the kernel with a history
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # files by handle, past every folder's permissions
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # the machine itself
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
_SET_AFFINITY = (203, 122)
_MEMFD_CREATE = (319, 279)

# Allowed for oneself alone: numbers, and what each argument must be (its index and value) to say so. Else any process
# of the same user could be slowed down.
_OF_ONESELF: tuple[tuple[tuple[int, int], dict[int, int]], ...] = (
    ((302, 261), {0: 0}),  # prlimit64
    ((142, 118), {0: 0}),  # sched_setparam
    ((144, 119), {0: 0}),  # sched_setscheduler
    ((314, 274), {0: 0}),  # sched_setattr
    ((141, 140), {0: 0, 1: 0}),  # setpriority: PRIO_PROCESS, then whose
    ((251, 30), {0: 1, 1: 0}),  # ioprio_set: IOPRIO_WHO_PROCESS, then whose
)

# linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME is for clone3 alone.)
_NEW_NAMESPACES = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000

# Of processes that share a training: gloo and NCCL listen on loopback, and ask the kernel for its interfaces.
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # the last: AF_NETLINK

_Instruction = tuple[int, int, int, int]


def is_available() -> bool:
    """Whether this kernel takes filters, and we know this machine's numbers."""
    if not IS_LINUX or ARCHITECTURE not in _ARCHITECTURES:
        return False
    action = struct.pack("=I", _KILL_PROCESS)
    try:
        system_call(_ARCHITECTURES[ARCHITECTURE][1], ctypes.c_uint(_SECCOMP_GET_ACTION_AVAIL), ctypes.c_uint(0), action)
    except OSError:
        return False
    return True


def restrict(*, sockets: bool, memory_files: bool) -> None:
    """Take the refused calls from this process and all that it starts, for good.

    `sockets` leaves sockets, `memory_files` files in memory that have no name. Needs `forbid_new_privileges` before.
    Raises OSError.
    """
    code = program(ARCHITECTURE, sockets=sockets, memory_files=memory_files)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count of instructions, and where they are
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def program(architecture: str, *, sockets: bool, memory_files: bool) -> bytes:
    """The filter for an architecture, as the kernel takes it: instructions of 8 bytes (struct sock_filter)."""
    column = list(_ARCHITECTURES).index(architecture)
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[architecture][0]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if architecture == "x86_64":
        code += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL_PROCESS)]
    for numbers in REFUSED.values():
        if (number := numbers[column]) is not None:
            code += _on(number, [_refusal(errno.EPERM)])
    # Its flags lie in memory, where no filter can look: the C library goes on with clone.
    code += _on(_CLONE3[column], [_refusal(errno.ENOSYS)])
    code += _on(
        _CLONE[column],
        [_argument(0), (_AND, 0, 0, _NEW_NAMESPACES), (_JUMP_EQUAL, 1, 0, 0), _refusal(errno.EPERM), _allowed()],
    )
    for pair, wanted in _OF_ONESELF:
        code += _on(pair[column], _if_equal(wanted, errno.EPERM))
    # The C library always names a thread by its number, its own ones too, and no filter knows which those are; where it
    # is refused, it starts no thread that was to have its processors. So such a call does nothing and says it did: a
    # thread may run anywhere then, which is a matter of speed alone.
    code += _on(_SET_AFFINITY[column], _if_equal({0: 0}, 0))
    if not memory_files:
        code += _on(_MEMFD_CREATE[column], [_refusal(errno.EPERM)])
    code += _on(_SOCKETPAIR[column], _only([socket.AF_UNIX]))
    code += _on(_SOCKET[column], _only(_FAMILIES if sockets else []))
    code += [_allowed()]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _on(number: int, then: list[_Instruction]) -> list[_Instruction]:
    """`then`, which must not fall through, for the call of this number."""
    return [(_JUMP_EQUAL, 0, len(then), number), *then]


def _only(families: Iterable[int]) -> list[_Instruction]:
    """Allow a socket of these families, and refuse every other."""
    checks = [instruction for family in families for instruction in ((_JUMP_EQUAL, 0, 1, int(family)), _allowed())]
    return [_argument(0), *checks, _refusal(errno.EPERM)]


def _if_equal(wanted: dict[int, int], otherwise: int) -> list[_Instruction]:
    """Allow a call with these arguments, by index; any other does nothing and gives this error, 0 for none."""
    checks = [
        instruction
        for index, value in wanted.items()
        for instruction in (_argument(index), (_JUMP_EQUAL, 1, 0, value), _refusal(otherwise))
    ]
    return [*checks, _allowed()]


def _argument(index: int) -> _Instruction:
    # The low half: what these calls take is an int, and the kernel ignores the rest.
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _refusal(code: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _allowed() -> _Instruction:
    return (_RETURN, 0, 0, _ALLOW)
