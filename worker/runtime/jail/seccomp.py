"""The system call filter: no new programs or processes, no sockets, no reach into other processes, no links.

A toolchain's process may fork and run programs (converters call compilers), though not leave its process group.
Threads, memory, files and scheduling stay as they are: OpenMP and ONNX Runtime pools work inside.
"""

import ctypes
import errno
import os
import socket
import struct

from worker.runtime.jail import libc
from worker.runtime.jail.bpf import ARCHITECTURE, NUMBER, Action, BpfProgram, errno_action, high_half, low_half
from worker.runtime.jail.syscalls import ARCHITECTURES, LAST_REVIEWED, Architecture

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
X32_CALLS = 0x40000000
CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020080  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15  # would let the kernel send signals to others on our behalf
EPERM = errno_action(errno.EPERM)
ENOSYS = errno_action(errno.ENOSYS)


def confine(*, unix_sockets: bool = False, programs: bool = False) -> None:
    """Install the filter in every thread of this process, for good.

    `unix_sockets`: AF_UNIX sockets may be made (libcuda binds one) but still not connected or sent from.
    `programs`: processes may be forked and programs run; which ones is the file system rules' affair.
    Raises OSError where the kernel or the machine has no such filter.
    """
    arch = ARCHITECTURES.get(libc.MACHINE)
    if not libc.LINUX or arch is None:
        raise OSError(errno.ENOSYS, "no system call filter for this machine")
    program = filter_for(arch, os.getpid(), unix_sockets=unix_sockets, programs=programs)
    code = program.assemble()
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), libc.address(buffer))  # struct sock_fprog
    fprog = ctypes.create_string_buffer(header, len(header))
    refused_thread = libc.syscall(arch.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, fprog)
    if refused_thread:
        raise OSError(errno.ESRCH, f"thread {refused_thread} could not be filtered")


def filter_for(arch: Architecture, pid: int, *, unix_sockets: bool, programs: bool = False) -> BpfProgram:
    """The filter for the process `pid`, which may signal itself (abort() does) and nobody else."""
    program = BpfProgram()
    program.load(ARCHITECTURE)
    with program.unless_equal(arch.audit):
        program.give(Action.KILL_PROCESS)
    program.load(NUMBER)
    with program.when_at_least(X32_CALLS):
        program.give(Action.KILL_PROCESS)
    with program.when_at_least(LAST_REVIEWED + 1):
        program.give(ENOSYS)
    for number in arch.denied(programs=programs):
        with program.when_equal(number):
            program.give(EPERM)
    with program.when_equal(arch.clone3):  # its flags lie in memory a filter cannot read; glibc falls back to clone
        program.give(ENOSYS)
    _by_argument(program, arch, pid, unix_sockets=unix_sockets, programs=programs)
    program.give(Action.ALLOW)
    return program


def _by_argument(program: BpfProgram, arch: Architecture, pid: int, *, unix_sockets: bool, programs: bool) -> None:
    with program.when_equal(arch.clone):
        program.load(low_half(0))
        with program.when_any_bit(CLONE_NAMESPACES):
            program.give(EPERM)
        with program.when_any_bit(CLONE_THREAD):
            program.give(Action.ALLOW)
        program.give(Action.ALLOW if programs else EPERM)
    for signal_call in (arch.kill, arch.tgkill):
        with program.when_equal(signal_call):
            _allow_only(program, 0, [pid])
    with program.when_equal(arch.socket):
        _allow_only(program, 0, [socket.AF_UNIX] if unix_sockets else [])
    with program.when_equal(arch.prctl):
        program.load(low_half(0))
        with program.when_equal(libc.PR_SET_PDEATHSIG):  # or the child could outlive its parent
            program.give(EPERM)
        program.give(Action.ALLOW)
    with program.when_equal(arch.prlimit64):  # reading is fine: glibc sizes thread stacks with it
        program.load(low_half(2))
        with program.unless_equal(0):
            program.give(EPERM)
        program.load(high_half(2))
        with program.unless_equal(0):
            program.give(EPERM)
        program.give(Action.ALLOW)
    with program.when_equal(arch.fcntl):
        program.load(low_half(1))
        for command in (F_SETOWN, F_SETSIG, F_SETOWN_EX):
            with program.when_equal(command):
                program.give(EPERM)
        program.give(Action.ALLOW)


def _allow_only(program: BpfProgram, argument: int, values: list[int]) -> None:
    program.load(low_half(argument))
    for value in values:
        with program.when_equal(value):
            program.give(Action.ALLOW)
    program.give(EPERM)
