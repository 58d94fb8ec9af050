"""Take away from this process what Windows does not have: modules, names of os and signal, and /proc.

    import without_posix; without_posix.remove()

Third-party packages have to be imported before, because they look at the system's name, which stays.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "posix")
OS_NAMES = (
    *("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_SYNC", "O_DSYNC", "O_NONBLOCK", "O_TMPFILE", "WNOHANG"),
    *("fork", "forkpty", "sync", "fdatasync", "uname", "getloadavg", "nice", "getuid", "geteuid", "getgid", "getegid"),
    *("getpgid", "getpgrp", "setsid", "setpgid", "killpg", "wait", "wait3", "wait4", "statvfs", "fstatvfs", "sysconf"),
    *("sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "pread", "pwrite", "sendfile"),
    *("mkfifo", "mknod", "chown", "fchown", "lchown", "chroot", "memfd_create", "openpty", "ttyname", "ctermid"),
    *("posix_spawn", "register_at_fork", "confstr", "pathconf", "setpriority", "getpriority", "getrandom"),
)
SIGNAL_NAMES = (
    *("SIGHUP", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGCONT", "SIGSTOP"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGXCPU", "SIGIO", "SIGBUS", "SIGTRAP", "alarm", "setitimer"),
    *("pthread_kill", "pthread_sigmask", "sigwait", "pause", "siginterrupt"),
)


# filelock and shutil choose their code by the system's name.
USED_BY_OTHERS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "fchmod", "statvfs")


def remove() -> None:
    """Remove them for the rest of the process."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
    for module, names in ((os, OS_NAMES), (signal, SIGNAL_NAMES)):
        for name in names:
            if hasattr(module, name) and name not in USED_BY_OTHERS:
                delattr(module, name)
    open_file = io.open

    def open_windows(file: Any, *arguments: Any, **named: Any) -> Any:
        if str(file).startswith(("/proc/", "/sys/", "/etc/", "/dev/")) and str(file) != os.devnull:
            raise FileNotFoundError(2, "there is no such folder on Windows", str(file))
        return open_file(file, *arguments, **named)

    io.open = open_windows
