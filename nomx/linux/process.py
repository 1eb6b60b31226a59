"""Processes and their privileges: identity that survives pid reuse, and the way down to no privilege at all.

Used by the daemon to watch the holder of a lease, and by the launcher between fork and exec.
Every function raises OSError with the call it was about.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

_PR_CAPBSET_DROP = 24
_PR_SET_TIMERSLACK = 29
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_SECURE_NOROOT = 1 << 0
_SECURE_NO_SETUID_FIXUP = 1 << 2
_SECURE_KEEP_CAPS_LOCKED = 1 << 5
_SECURE_NO_CAP_AMBIENT_RAISE = 1 << 6
_SECURE_BITS = (
    _SECURE_NOROOT
    | _SECURE_NOROOT << 1
    | _SECURE_NO_SETUID_FIXUP
    | _SECURE_NO_SETUID_FIXUP << 1
    | _SECURE_KEEP_CAPS_LOCKED
    | _SECURE_NO_CAP_AMBIENT_RAISE
    | _SECURE_NO_CAP_AMBIENT_RAISE << 1
)
"""Being uid 0, or becoming it, gives no capability; each bit with its lock (the bit above it)."""

_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SETPCAP = 8

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def start_time(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot: with the pid, one process and no other.

    Raises: ProcessLookupError: there is no such process.
    Source: proc(5), "/proc/[pid]/stat" field 22.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, "no such process", f"/proc/{pid}/stat") from None
    # The command name, in parentheses, may hold anything; fields are counted after its last one.
    return int(stat.rpartition(b")")[2].split()[19])


def open_pidfd(pid: int, start: int) -> int:
    """Open a descriptor that becomes readable when the process started at *start* ends.

    Raises: ProcessLookupError: that process is gone, whoever has its pid now.
    Source: pidfd_open(2).
    """
    fd = os.pidfd_open(pid)
    try:
        if start_time(pid) != start:
            raise ProcessLookupError(errno.ESRCH, "the pid belongs to a later process", f"/proc/{pid}/stat")
    except OSError:
        os.close(fd)
        raise
    return fd


def boot_id() -> str:
    """Return the identity of this boot: pids and start times mean nothing in another."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _prctl(name: str, option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *words) != 0:
        raise _failure(f"prctl({name})")


def _failure(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), call)


def set_no_new_privileges() -> None:
    """Let no exec of this process or its children give privileges (setuid bits, file capabilities). For good."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def set_timer_slack(nanoseconds: int) -> None:
    """Let the kernel wake the calling thread at most so much later than it asked; 50,000 is the default."""
    _prctl("PR_SET_TIMERSLACK", _PR_SET_TIMERSLACK, nanoseconds)


def has_capability(number: int) -> bool:
    """Return whether capability *number* is in this process's effective set."""
    data = (_CapData * 2)()
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    if _libc.capget(ctypes.byref(header), data) != 0:
        raise _failure("capget")
    return bool(data[number // 32].effective >> (number % 32) & 1)


def drop_capabilities_for_good() -> None:
    """Empty the bounding and ambient sets and lock the secure bits, so that not even uid 0 regains a capability.

    The effective and permitted sets stay, for `become_user`, until `clear_capabilities`. Without
    CAP_SETPCAP (an ordinary user) there is nothing to drop: its sets are empty, and the bounding
    set of a process with no_new_privs gives nothing.
    Source: capabilities(7).
    """
    _prctl("PR_CAP_AMBIENT_CLEAR_ALL", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if not has_capability(_CAP_SETPCAP):
        return
    _prctl("PR_SET_SECUREBITS", _PR_SET_SECUREBITS, _SECURE_BITS)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)


def become_user(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Take on a user's real, effective and saved ids, and exactly its groups.

    Raises: PermissionError: CAP_SETUID or CAP_SETGID is missing.
    """
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def clear_capabilities() -> None:
    """Empty this process's effective, permitted and inheritable sets. For good."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), (_CapData * 2)()) != 0:
        raise _failure("capset")
