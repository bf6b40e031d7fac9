"""What confines the child process, layer by layer. A file for `_executor.py`, with no imports from the package.

| layer | what it is for |
|---|---|
| rlimits | end what takes too much CPU time or memory; no file, pipe or socket can be opened, no process started |
| user | where the parent is root, the child is nobody: root is above some of the rlimits |
| no_new_privs | no program with more rights can be started; what the next two layers need |
| landlock | the kernel lets this process open no file, connect to nothing, and send no signal to others |
| seccomp | the kernel refuses every system call but the few with which a running interpreter computes and writes |

Each layer works without the others; where one is missing (an old kernel, another system) the rest is in force. A
program that has got past the whitelist is left with the CPU, its memory, and what is already open: standard input,
output and error. The layers do not protect against faults of the kernel itself, nor against side channels of the
processor, and the output of such a program must not be trusted.
"""

import os
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any

MEMORY = 1 << 29  # bytes
NOBODY = 65534
LIMITS = {"RLIMIT_AS": MEMORY, "RLIMIT_NOFILE": 0, "RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_CREATE_RULESET_VERSION = 444, 446, 1  # on every architecture
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files there are from a version of Landlock on: each is a bit."""
NETWORK, NETWORK_RIGHTS = 4, 0b11  # the first version that has them: bind and connect, of TCP
SCOPES, SCOPE_RIGHTS = 6, 0b11  # abstract Unix sockets, signals

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The column in CALLS, and the architecture as a seccomp filter sees it."""
CALLS: dict[str, tuple[int, int]] = {
    # what is open already
    **{"read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "lseek": (8, 62)},
    **{"fstat": (5, 80), "close": (3, 57)},
    # memory
    **{"mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216)},
    **{"madvise": (28, 233)},
    # locks and signals of its own: nothing here sends one
    **{"futex": (202, 98), "sched_yield": (24, 124), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135)},
    **{"rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "sigaltstack": (131, 132)},
    **{"restart_syscall": (219, 128)},
    # time and chance
    **{"getitimer": (36, 102), "setitimer": (38, 103), "nanosleep": (35, 101), "clock_nanosleep": (230, 115)},
    **{"clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "times": (100, 153)},
    **{"getrusage": (98, 165), "getrandom": (318, 278)},
    # who it is
    **{"getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "getgid": (104, 176)},
    **{"geteuid": (107, 175), "getegid": (108, 177), "getrlimit": (97, 163)},
    # the end
    **{"exit": (60, 93), "exit_group": (231, 94)},
}
"""The system calls that remain, by their numbers on x86_64 and aarch64."""
PRLIMIT = (302, 261)  # allowed only where it asks for limits of the process itself
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of a filter: load a word, jump if equal, return
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # REFUSE: the call fails with EPERM
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # where they are in what a filter is shown


class MissingError(Exception):
    """Why a layer is not available on this machine."""


def confine(seconds: int) -> dict[str, str]:
    """Set every available layer, for the whole process and irrevocably.

    Args:
        seconds: CPU time.

    Returns:
        For each layer, "" if it is in force, otherwise why it is not.
    """
    layers: dict[str, Callable[[], None]] = {
        "no_new_privs": forbid_new_privileges,
        "landlock": close_files_and_network,  # needs a file descriptor, so before the rlimits
        "rlimits": lambda: limit_resources(seconds),
        "user": become_nobody,
        "seccomp": filter_system_calls,  # last: it would refuse the others
    }
    return {name: reason_against(layer) for name, layer in layers.items()}


def reason_against(layer: Callable[[], None]) -> str:
    """Set a layer, and return why it could not be set, or "" if it is."""
    try:
        layer()
    except (MissingError, OSError, ValueError, ImportError, AttributeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def limit_resources(seconds: int) -> None:
    """Limit CPU time and memory, and allow no further files and processes. What is open stays open."""
    refused = []
    for name, soft, hard in (("RLIMIT_CPU", seconds, seconds + 1), *((name, at, at) for name, at in LIMITS.items())):
        limit = getattr(resource, name)
        ceiling = resource.getrlimit(limit)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(limit, (soft, hard))
        except (OSError, ValueError) as error:  # macOS has no limit of memory
            refused.append(f"{name}: {error}")
    if refused:
        raise MissingError("; ".join(refused))


def become_nobody() -> None:
    """Give up root in every way there is: groups, group and user."""
    if os.geteuid() != 0:
        return
    refused = []
    ways: list[Callable[[], None]] = [lambda: os.setgroups([]), lambda: os.setgid(NOBODY), lambda: os.setuid(NOBODY)]
    for give_up in ways:
        try:
            give_up()
        except OSError as error:
            refused.append(str(error))
    if refused:
        raise MissingError("; ".join(refused))


def forbid_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: no program that is started has more rights than this process."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def close_files_and_network() -> None:
    """Landlock with every right that the kernel knows, and no rule that would grant one."""
    version = _syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        raise MissingError(f"the kernel has no Landlock ({_last_error()})")
    rights = FILE_RIGHTS[max(known for known in FILE_RIGHTS if known <= version)]
    attributes = struct.pack(
        "=QQQ",  # a kernel that knows fewer of the fields wants the rest to be zero
        (1 << rights) - 1,
        NETWORK_RIGHTS if version >= NETWORK else 0,
        SCOPE_RIGHTS if version >= SCOPES else 0,
    )
    ruleset = _syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise MissingError(f"Landlock refused the ruleset ({_last_error()})")
    try:
        if _syscall(LANDLOCK_RESTRICT_SELF, ruleset, None, 0) != 0:
            raise MissingError(f"Landlock could not be set ({_last_error()})")
    finally:
        os.close(ruleset)


def filter_system_calls() -> None:
    """A seccomp filter: the calls in CALLS, and EPERM for every other.

    A refused call does not kill, so that the attempt becomes a sentence about the program; nothing that is allowed does
    harm, so further attempts gain nothing. Calls of a foreign architecture (such as 32-bit ones), which no interpreter
    makes by mistake, do kill.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES or struct.calcsize("P") != 8:
        raise MissingError(f"no system calls are known for {machine} with pointers of {8 * struct.calcsize('P')} bits")
    import ctypes

    instructions = seccomp_filter(machine)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in instructions))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(program)))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0)


def seccomp_filter(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter's instructions: what to do, how many to skip if equal and if not, and with which number."""
    column, architecture = ARCHITECTURES[machine]
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    for numbers in CALLS.values():
        steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ALLOW)]
    zeros = (0, 16, 20)  # of the arguments: the process (itself), and both halves of where the new limits are
    steps += [(EQUAL, 0, 2 * len(zeros) + 1, PRLIMIT[column])]
    for k, place in enumerate(zeros):
        steps += [(LOAD, 0, 0, ARGUMENTS + place), (EQUAL, 0, 2 * (len(zeros) - 1 - k) + 1, 0)]
    return [*steps, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]


def _libc() -> tuple[Any, type[Any]]:
    """The C library, through which this process calls the kernel, and the type of its integer arguments."""
    if not sys.platform.startswith("linux"):
        raise MissingError(f"there is no such thing on {sys.platform}")
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc, ctypes.c_ulong


def _last_error() -> str:
    import ctypes

    return os.strerror(ctypes.get_errno())


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    libc, word = _libc()
    given = (word(argument) if isinstance(argument, int) else argument for argument in arguments)
    return int(libc.syscall(word(number), *given))


def _prctl(option: int, *arguments: int) -> None:
    libc, word = _libc()
    if libc.prctl(option, *map(word, arguments)) != 0:
        raise MissingError(f"the kernel refused ({_last_error()})")
