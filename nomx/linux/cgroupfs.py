"""Control groups, versions 1 and 2: where their files are, and one function for each thing one does with them.

Stands below `nomx.mech`, which decides what to write. A lease's group is one directory, named by
`directory_name`, at the top of each hierarchy that counts: the cpuset and the memory controller
(v1 mounts of their own, or the v2 hierarchy), and always the v2 hierarchy, since BPF programs
attach there. It sits at the top, not under a directory of the daemon's, because both versions
allow exclusive CPUs only below exclusive parents, and only the root is that without harm.

Every function raises OSError with the file it was about.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = "/proc/self/mountinfo"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Controller:
    """One controller: its cgroup *version* (1 or 2) and the *root* of the hierarchy it is on."""

    name: str
    version: int
    root: Path


@dataclass(frozen=True)
class Hierarchies:
    """Where this host keeps its control groups. A controller that is on no hierarchy is None."""

    unified: Path
    cpuset: Controller | None
    memory: Controller | None

    def roots(self) -> tuple[Path, ...]:
        """Return the root of each distinct hierarchy in which a lease's group is made."""
        controllers = (self.cpuset, self.memory)
        return tuple(dict.fromkeys([self.unified, *(each.root for each in controllers if each is not None)]))


def directory_name(instance: str, group: str) -> str:
    """Return a group's directory name: `.` is in no instance name, so two instances never meet."""
    return f"{instance}.{group}"


def unified_mount_point(instance: str) -> Path:
    """Return where the instance mounts a v2 hierarchy of its own on a host that has mounted none."""
    return Path("/run", instance, "cgroup2")


def unified_path(instance: str, group: str) -> Path:
    """Return the v2 directory of a lease's group, whether or not it exists.

    Raises: FileNotFoundError: no v2 hierarchy is mounted (`mount_unified` makes one).
    """
    return hierarchies().unified / directory_name(instance, group)


def hierarchies() -> Hierarchies:
    """Find the hierarchies of this host in its mount table.

    Raises: FileNotFoundError: no v2 hierarchy is mounted.
    Source: proc(5) "mountinfo"; Documentation/admin-guide/cgroup-v2.rst.
    """
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for kind, mount_point, options in _cgroup_mounts():
        if kind == "cgroup2":
            unified = unified or mount_point
        else:
            legacy.update((option, mount_point) for option in options if option not in legacy)
    if unified is None:
        raise FileNotFoundError(errno.ENOENT, "no cgroup v2 hierarchy is mounted", _MOUNTINFO)
    on_unified = read(unified / "cgroup.controllers").split()

    def find(name: str) -> Controller | None:
        if name in legacy:
            return Controller(name, 1, legacy[name])
        return Controller(name, 2, unified) if name in on_unified else None

    return Hierarchies(unified, find("cpuset"), find("memory"))


def _cgroup_mounts() -> Iterator[tuple[str, Path, list[str]]]:
    """Yield (file system type, mount point, super options) of each cgroup mount, oldest first."""
    with open(_MOUNTINFO) as table:
        for line in table:
            mount, _, source = line.partition(" - ")
            kind, _, options = source.split(maxsplit=2)
            if kind in ("cgroup", "cgroup2"):
                yield kind, Path(mount.split()[4].encode().decode("unicode_escape")), options.strip().split(",")


def mount_unified(mount_point: Path) -> None:
    """Mount the v2 hierarchy at *mount_point*, making the directory."""
    mount_point.mkdir(parents=True, exist_ok=True)
    if _libc.mount(b"none", os.fsencode(mount_point), b"cgroup2", 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount -t cgroup2: {os.strerror(ctypes.get_errno())}", str(mount_point))


def unmount_unified(mount_point: Path) -> None:
    """Undo `mount_unified`; does nothing where it was not done."""
    if not mount_point.is_dir():
        return
    if mount_point.is_mount() and _libc.umount2(os.fsencode(mount_point), 0) != 0:
        raise OSError(ctypes.get_errno(), f"umount: {os.strerror(ctypes.get_errno())}", str(mount_point))
    mount_point.rmdir()


def read(path: Path) -> str:
    """Read a control file, without the newline at its end."""
    with open(path) as file:
        return file.read().rstrip("\n")


def read_keyed(path: Path) -> dict[str, int]:
    """Read a control file of `key value` lines."""
    return {key: int(value) for key, value in (line.split() for line in read(path).splitlines())}


def write(path: Path, value: str) -> None:
    """Write *value* to a control file in one system call, as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        # The kernel's error comes from the write, which does not know the file's name.
        raise OSError(error.errno, f"{error.strerror} (writing {value!r})", str(path)) from None
    finally:
        os.close(fd)


def enable(controller: Controller) -> None:
    """Let children of the v2 root use *controller*.

    It stays enabled: by the time a lease ends, others may rely on it.
    """
    if controller.name not in read(controller.root / "cgroup.subtree_control").split():
        write(controller.root / "cgroup.subtree_control", f"+{controller.name}")


def make(directory: Path) -> None:
    """Make a group, which may be there already."""
    directory.mkdir(mode=0o755, exist_ok=True)


def remove(directory: Path) -> None:
    """Remove an empty group, which may be gone already.

    Raises: OSError: EBUSY: processes or groups are left in it.
    """
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()


def processes(directory: Path) -> tuple[int, ...]:
    """Return the pids in a group (0 stands for one outside this pid namespace); none where the group is gone."""
    try:
        return tuple(int(pid) for pid in read(directory / "cgroup.procs").split())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # ENODEV: it was removed while it was read
            return ()
        raise


def move(directory: Path, pid: int) -> None:
    """Move a process, all its threads, into a group.

    Raises: ProcessLookupError: there is no such process.
    """
    write(directory / "cgroup.procs", str(pid))


def kill(directory: Path) -> None:
    """Kill every process of a v2 group, those being forked too; does nothing where the group is gone.

    Source: Documentation/admin-guide/cgroup-v2.rst, "cgroup.kill" (Linux 5.14).
    """
    try:
        write(directory / "cgroup.kill", "1")
    except FileNotFoundError:
        if directory.exists():
            raise


def wait_unpopulated(directory: Path, deadline_ns: int) -> bool:
    """Wait until no live process is left in a v2 group; *deadline_ns* is CLOCK_MONOTONIC. Return whether that came.

    Source: Documentation/admin-guide/cgroup-v2.rst, "[Un]populated Notification".
    """
    try:
        fd = os.open(directory / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while b"populated 0" not in os.pread(fd, 4096, 0):
            left_ms = (deadline_ns - time.monotonic_ns()) // 1_000_000
            if left_ms <= 0:
                return False
            poller.poll(left_ms)
        return True
    finally:
        os.close(fd)


def membership(pid: int) -> tuple[tuple[str, str], ...]:
    """Return where a process is: (controllers, path below the hierarchy's root) of each; v2 has no controllers.

    Raises: ProcessLookupError: there is no such process.
    Source: cgroups(7), "/proc/[pid]/cgroup".
    """
    try:
        lines = read(Path(f"/proc/{pid}/cgroup")).splitlines()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", f"/proc/{pid}") from None
    return tuple((controllers, path) for _, controllers, path in (line.split(":", 2) for line in lines))
