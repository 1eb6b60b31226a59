"""Network namespaces: named ones made and removed as `ip netns` does, and entered by one thread for a while.

A namespace's name is a file under /run/netns on which its nsfs entry is bind-mounted: it lives
until it is removed, whoever dies meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_NS_GET_NSTYPE = 0xB703

_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """Where the namespace *name* is."""
    return FOLDER / name


def exists(name: str) -> bool:
    """Whether *name* is a namespace, not the plain file that a kill between two steps left behind."""
    try:
        return path(name).stat().st_dev != FOLDER.stat().st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Make the namespace *name*.

    Raises: FileExistsError: there is one of that name. OSError: with the call.
    """
    if exists(name):
        raise FileExistsError(17, "the network namespace is there already", str(path(name)))
    _share_folder()
    path(name).touch(mode=0o444)
    failures: list[OSError] = []

    def bind() -> None:  # in a thread, which alone is in the new namespace, and ends with it
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
            _check(_libc.mount(source, os.fsencode(path(name)), b"none", _MS_BIND, None), f"mount({path(name)})")
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=bind, name="nomx-netns")
    thread.start()
    thread.join()
    if failures:
        path(name).unlink()
        raise failures[0]


def remove(name: str) -> None:
    """Undo `create`; does nothing where there is no such namespace. Interfaces in it go with its last user."""
    if exists(name):
        _check(_libc.umount2(os.fsencode(path(name)), _MNT_DETACH), f"umount({path(name)})")
    path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def inside(namespace: Path | int) -> Iterator[None]:
    """Be in a namespace (its path or a descriptor of it), this thread alone, and come back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(target, _CLONE_NEWNET), f"setns({namespace})")
        finally:
            if target is not namespace:
                os.close(target)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "setns(back)")
    finally:
        os.close(home)


def identity(namespace: Path | int) -> int:
    """Return the namespace's inode number, as the kernel's `ns.inum` has it."""
    return (os.fstat(namespace) if isinstance(namespace, int) else namespace.stat()).st_ino


def is_namespace(fd: int) -> bool:
    """Return whether a descriptor, of whatever origin, is one of a network namespace.

    Source: ioctl_ns(2), "NS_GET_NSTYPE".
    """
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _share_folder() -> None:
    """Make /run/netns propagate mounts, as `ip netns` does: else other mount namespaces would keep a removed one.

    Only a mount can be shared, so the kernel's refusal (EINVAL) tells that it is none yet. Comparing
    devices would not: a bind mount within one file system has its parent's, and binding a shared
    mount onto itself again doubles every mount below it. So would two processes that both find none:
    hence the lock, the same that `ip netns` takes.
    """
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    where = os.fsencode(FOLDER)
    lock = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _libc.mount(b"", where, b"none", _MS_SHARED | _MS_REC, None) == 0:
            return
        if ctypes.get_errno() == errno.EINVAL:
            _check(_libc.mount(where, where, b"none", _MS_BIND | _MS_REC, None), f"mount({FOLDER})")
        _check(_libc.mount(b"", where, b"none", _MS_SHARED | _MS_REC, None), f"mount --make-shared {FOLDER}")
    finally:
        os.close(lock)


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
