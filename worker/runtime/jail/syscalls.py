"""Numbers of the system calls that the filter names: (x86_64, aarch64); None where there is no such call.

Source: asm/unistd_64.h and asm-generic/unistd.h of Linux 6.18.
"""

from dataclasses import dataclass
from typing import Final

LAST_REVIEWED: Final = 462
"""`mseal`. Whatever was added later is answered ENOSYS, which C libraries expect from an older kernel."""

NEW_PROGRAMS_AND_PROCESSES: Final = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
}

OTHER_PROCESSES: Final = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setrlimit": (160, 164),
    # System V and POSIX IPC is shared by everything that runs as the same user, and no file system rule covers it.
    # Its identifiers are small numbers, so whoever guesses one needs no call that gets it first.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    "get_robust_list": (274, 100),  # addresses in another process
}

NETWORK: Final = {
    "socketpair": (53, 199),
    "connect": (42, 203),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
}

FILES: Final = {
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "link": (86, None),
    "linkat": (265, 37),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "open_by_handle_at": (304, 265),
    # Landlock does not restrict these (kernel documentation, "Current limitations"), and they reach any path or any
    # file opened for reading: the child runs as its parent's user and could lock it out of its own files.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "truncate": (76, 45),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),  # memory that no resident-set watch sees
}

KERNEL: Final = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lookup_dcookie": (212, 18),
}

LEAVING_THE_GROUP: Final = {"setsid": (112, 157), "setpgid": (109, 154)}
"""Its process group is how a job ends, and all that it started with it."""

DENIED: Final = LEAVING_THE_GROUP | OTHER_PROCESSES | NETWORK | FILES | KERNEL


@dataclass(frozen=True)
class Architecture:
    """What differs between machines: the audit number and the calls that are filtered by argument or made by us."""

    audit: int
    column: int
    clone: int
    clone3: int
    kill: int
    tgkill: int
    prctl: int
    prlimit64: int
    fcntl: int
    ioctl: int
    open: int | None
    openat: int
    openat2: int
    sched_setaffinity: int
    socket: int
    seccomp: int
    capset: int

    def denied(self, *, programs: bool) -> list[int]:
        """The numbers that always fail with EPERM; `programs` may be run and processes forked, or not."""
        calls = DENIED if programs else DENIED | NEW_PROGRAMS_AND_PROCESSES
        return [number for each in calls.values() if (number := each[self.column]) is not None]


ARCHITECTURES: Final = {
    "x86_64": Architecture(
        audit=0xC000003E,
        column=0,
        clone=56,
        clone3=435,
        kill=62,
        tgkill=234,
        prctl=157,
        prlimit64=302,
        fcntl=72,
        ioctl=16,
        open=2,
        openat=257,
        openat2=437,
        sched_setaffinity=203,
        socket=41,
        seccomp=317,
        capset=126,
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        column=1,
        clone=220,
        clone3=435,
        kill=129,
        tgkill=131,
        prctl=167,
        prlimit64=261,
        fcntl=25,
        ioctl=29,
        open=None,
        openat=56,
        openat2=437,
        sched_setaffinity=122,
        socket=198,
        seccomp=277,
        capset=91,
    ),
}
