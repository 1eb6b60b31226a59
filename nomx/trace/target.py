"""What is traced: a lease, a process with its children, or a command's cgroup. The tracer's first input.

A target is counted by the cgroup that is its alone, where it has one: then sockets are seen packet
by packet. Else by its processes, which the tracer follows through forks and exits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nomx.alloc import names
from nomx.api.lease import LeaseStatus, Traffic
from nomx.errors import InvalidRequest, LeaseClosed, NotSupported
from nomx.linux import cgroupfs, netns
from nomx.linux.abi_trace import TREE
from nomx.trace.devices import devices_of_process, find
from nomx.trace.report import Device
from nomx.types import CpuSet

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""Inode number of the first pid namespace. Source: include/uapi/linux/nsfs.h, PID_NS_INIT_INO."""


@dataclass(frozen=True)
class Target:
    """Something to trace. Either *group* or *pid* says which threads are its."""

    label: str
    subject: int
    """The number by which the tracer's maps know it."""
    kind: str
    """`lease`, `process` or `command`."""
    group: Path | None = None
    """The cgroup v2 directory that is its alone."""
    pid: int | None = None
    """The root of its tree of processes."""
    path: str = ""
    """A lease's path."""
    devices: tuple[Device, ...] = ()
    no_devices: str = ""
    """Why there are none; the empty text where it has no device of its own, which is no loss."""
    traffic: Callable[[], Traffic] | None = field(default=None, compare=False)
    """Packets as the daemon counts them, for a lease with a device."""

    def processes(self) -> tuple[int, ...]:
        """Return the pids of its processes now."""
        if self.group is not None:
            return cgroupfs.processes(self.group)
        return process_tree(self.pid) if self.pid is not None else ()

    def affinity(self) -> str:
        """Return the CPUs on which its processes may run, in the kernel's list format."""
        allowed: set[int] = set()
        for pid in self.processes():
            try:
                allowed |= os.sched_getaffinity(pid)
            except ProcessLookupError:
                continue
        return str(CpuSet(allowed))


def lease(status: LeaseStatus, instance: str, observe: Callable[[], LeaseStatus]) -> Target:
    """Make a target of a lease; *observe* asks the daemon for its status again.

    Raises: LeaseClosed: it has ended.
    """
    record = status.record
    if status.state == "ended":
        raise LeaseClosed(lease=record.lease, reason=status.end_reason or "it was released")
    group = cgroupfs.unified_path(instance, names.group(record.number))
    try:
        subject = group_subject(group)
    except FileNotFoundError:
        raise LeaseClosed(lease=record.lease, reason=f"its cgroup {group} is gone") from None
    return Target(
        label=record.lease,
        subject=subject,
        kind="lease",
        group=group,
        path=record.path,
        devices=(find(status.device.ifname, netns.path(instance)),) if status.device is not None else (),
        traffic=(lambda: observe().traffic) if status.device is not None else None,
    )


def process(pid: int, device_names: tuple[str, ...] = ()) -> Target:
    """Make a target of a running process, its threads and its children.

    Raises:
        InvalidRequest: no process has that pid, or its namespace has no such device.
        NotSupported: this is not the first pid namespace, so the kernel's pids are not ours.
    """
    check_pid_namespace()
    _check_exists(pid)
    devices, why_none = devices_of_process(pid, device_names)
    group = own_group(pid)
    subject = group_subject(group) if group is not None else TREE | pid
    return Target(str(pid), subject, "process", group, pid, devices=devices, no_devices=why_none)


def group_subject(group: Path) -> int:
    """Return the number of a cgroup: its id, which is the inode number of its directory.

    Raises: FileNotFoundError: it is gone.
    """
    return group.stat().st_ino


def _check_exists(pid: int) -> None:
    expected = "the pid of a running process (a lease is L1, L2, ...)"
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise InvalidRequest(field="pid", value=pid, expected=expected) from None
    leader = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Tgid:"))
    if leader != pid:
        raise InvalidRequest(field="pid", value=pid, expected=f"{expected}; it is a thread of process {leader}")


def check_pid_namespace() -> None:
    """Raise NotSupported where the kernel's pids, which programs see, are not this process's."""
    if os.stat("/proc/self/ns/pid").st_ino != _INITIAL_PID_NAMESPACE:
        missing = "this is a pid namespace (a container), and tracing programs see the pids of the host"
        remedy = "run nomx trace on the host, or the container with --pid=host; a lease can be traced from here"
        raise NotSupported(feature="tracing a process by its pid", missing=missing, remedy=remedy)


def process_tree(pid: int) -> tuple[int, ...]:
    """Return *pid* and the pids of its descendants now; none when it has ended."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (parent := _parent(int(entry))) is not None:
            children.setdefault(parent, []).append(int(entry))
            alive.add(int(entry))
    found, waiting = [], [pid] if pid in alive else []
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], ())
    return tuple(found)


def _parent(pid: int) -> int | None:
    """Return a process's parent; None when it has ended (a zombie has, too)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return int(parent) if state not in "ZX" else None


def own_group(pid: int) -> Path | None:
    """Return the cgroup v2 directory of a process if it holds that process's tree and nothing else."""
    try:
        inside = next((path for controllers, path in cgroupfs.membership(pid) if not controllers), "/")
        directory = cgroupfs.hierarchies().unified / inside.lstrip("/")
    except (ProcessLookupError, FileNotFoundError):
        return None
    if inside == "/" or any(child.is_dir() for child in directory.iterdir()):
        return None
    members = set(cgroupfs.processes(directory))
    return directory if members and members == set(process_tree(pid)) else None
