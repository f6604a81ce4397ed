"""The system call filter: no new programs or processes, no sockets, no reach into other processes, no links.

A toolchain's process may fork and run programs (converters call compilers), though not leave its process group.
Threads, memory, files and scheduling of its own stay as they are: OpenMP and ONNX Runtime pools work inside.
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
O_TMPFILE = 0o20000000  # a file without a name, which nobody who looks into the folder counts
IOCTLS = (
    0x5401,  # TCGETS: isatty()
    0x802C542A,  # TCGETS2
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
"""What C libraries and Python ask of descriptors. Others change files that were opened to be read: their attributes
(FS_IOC_SETFLAGS), snapshots, encryption. Source: asm-generic/ioctls.h, linux/fs.h."""
IOCTL_TYPE = 0xFF00
CUDA_IOCTL_TYPES = (ord("F") << 8, ord("d") << 8)  # NVIDIA's own (nv-ioctl-numbers.h), DRM
CUDA_IOCTLS = (0x30000001, 0x30000002)  # UVM_INITIALIZE, UVM_DEINITIALIZE; its others are numbers below 256
EPERM = errno_action(errno.EPERM)
ENOSYS = errno_action(errno.ENOSYS)
ENOTTY = errno_action(errno.ENOTTY)
EOPNOTSUPP = errno_action(errno.EOPNOTSUPP)


def confine(*, cuda: bool = False, programs: bool = False) -> None:
    """Install the filter in every thread of this process, for good.

    `cuda`: AF_UNIX sockets may be made (libcuda binds one) but still not connected or sent from, and the driver asked.
    `programs`: processes may be forked and programs run; which ones is the file system rules' affair.
    Raises OSError where the kernel or the machine has no such filter.
    """
    arch = ARCHITECTURES.get(libc.MACHINE)
    if not libc.LINUX or arch is None:
        raise OSError(errno.ENOSYS, "no system call filter for this machine")
    program = filter_for(arch, os.getpid(), cuda=cuda, programs=programs)
    code = program.assemble()
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), libc.address(buffer))  # struct sock_fprog
    fprog = ctypes.create_string_buffer(header, len(header))
    refused_thread = libc.syscall(arch.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, fprog)
    if refused_thread:
        raise OSError(errno.ESRCH, f"thread {refused_thread} could not be filtered")


def filter_for(arch: Architecture, pid: int, *, cuda: bool, programs: bool = False) -> BpfProgram:
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
    for number in (arch.clone3, arch.openat2):  # flags lie in memory a filter cannot read; callers use the older call
        with program.when_equal(number):
            program.give(ENOSYS)
    _by_argument(program, arch, pid, cuda=cuda, programs=programs)
    program.give(Action.ALLOW)
    return program


def _by_argument(program: BpfProgram, arch: Architecture, pid: int, *, cuda: bool, programs: bool) -> None:
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
        _allow_only(program, 0, [socket.AF_UNIX] if cuda else [])
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
    with program.when_equal(arch.sched_setaffinity):  # of the caller, or of the whole process
        _allow_only(program, 0, [0, pid])
    _by_flags_of_open(program, arch)
    with program.when_equal(arch.ioctl):
        _by_request(program, cuda=cuda)


def _by_flags_of_open(program: BpfProgram, arch: Architecture) -> None:
    for number, flags in ((arch.open, 1), (arch.openat, 2)):
        if number is None:
            continue
        with program.when_equal(number):
            program.load(low_half(flags))
            with program.when_any_bit(O_TMPFILE):
                program.give(EOPNOTSUPP)
            program.give(Action.ALLOW)


def _by_request(program: BpfProgram, *, cuda: bool) -> None:
    """The kernel reads 32 bits of an ioctl's request."""
    program.load(low_half(1))
    for request in (*IOCTLS, *(CUDA_IOCTLS if cuda else ())):
        with program.when_equal(request):
            program.give(Action.ALLOW)
    if cuda:
        with program.unless_at_least(1 << 8):
            program.give(Action.ALLOW)
        program.keep_bits(IOCTL_TYPE)
        for type_ in CUDA_IOCTL_TYPES:
            with program.when_equal(type_):
                program.give(Action.ALLOW)
    program.give(ENOTTY)


def _allow_only(program: BpfProgram, argument: int, values: list[int]) -> None:
    program.load(low_half(argument))
    for value in values:
        with program.when_equal(value):
            program.give(Action.ALLOW)
    program.give(EPERM)
