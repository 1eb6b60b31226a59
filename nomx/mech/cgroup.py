"""The group of a lease: made, joined, its CPUs changed, observed, emptied and removed, whatever the cgroup version.

Three mechanisms, one for each action (MakeGroup, SetCpus, JoinGroup), over the directories that
`nomx.linux.cgroupfs` finds. Undo works from the action alone, any number of times.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from nomx.alloc.actions import JoinGroup, MakeGroup, SetCpus
from nomx.linux import cgroupfs
from nomx.mech.cpuset import Cpuset, cpuset
from nomx.mech.mechanism import explained
from nomx.mech.memory import Memory, memory
from nomx.types import CpuSet

_EMPTY_WITHIN_NS = 5_000_000_000
"""How long a group may take to empty once its processes were killed or moved."""

_HINT = "the daemon needs root and the host's cgroups, not a container's read-only view: see `nomx doctor`"
_JOIN_HINT = "has the process ended meanwhile?"


@dataclass(frozen=True)
class GroupUsage:
    """What is observed of a group. Memory is None where no controller accounts it."""

    cpus: CpuSet
    memory_limit_bytes: int | None
    memory_used_bytes: int | None
    oom_kills: int
    pids: tuple[int, ...]
    unenforced: tuple[str, ...]


class Groups:
    """Mechanism of MakeGroup: the lease's directory in every hierarchy that counts."""

    def __init__(self, hierarchies: cgroupfs.Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._cpuset: Cpuset | None = cpuset(hierarchies.cpuset) if hierarchies.cpuset else None
        self._memory: Memory | None = memory(hierarchies.memory) if hierarchies.memory else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Controllers that this host offers on no hierarchy."""
        offered = {"cpuset": self._cpuset, "memory": self._memory}
        return tuple(name for name, controller in offered.items() if controller is None)

    def available_cpus(self, instance: str) -> CpuSet:
        """Return the CPUs that no cpuset but this instance's own holds exclusively; none without a cpuset controller.

        Raises: MechanismError.
        """
        with explained("reading which CPUs are free", _HINT):
            return self._cpuset.available(instance) if self._cpuset else CpuSet()

    def apply(self, action: MakeGroup) -> None:
        """Make the group with its CPUs and its memory limit.

        Raises: MechanismError: the kernel refused; what was made until then is for `undo`.
        """
        with explained(f"making cgroup {action.group}", _HINT):
            for controller in (self._hierarchies.cpuset, self._hierarchies.memory):
                if controller is not None and controller.version == 2:
                    cgroupfs.enable(controller)
            for directory in self._directories(action):
                cgroupfs.make(directory)
            if self._cpuset is not None:
                self._cpuset.give(self._cpuset_directory(action), action.cpus, action.exclusive)
            if self._memory is not None and action.memory_bytes is not None:
                self._memory.limit(self._memory_directory(action), action.memory_bytes)
        threading.Thread(target=self._hasten_join, name="nomx-hasten-join").start()

    def _hasten_join(self) -> None:
        """Have the kernel wait now for what the next join would wait for, while others make the lease's device.

        The first move of a process between groups after a while costs a grace period, 5 to 15 ms
        (cgroup_threadgroup_rwsem; seen in 6.18); for some milliseconds more moves are free of it. So
        this moves our own process to where it is. That it may fail matters to nobody.
        """
        with contextlib.suppress(OSError, KeyError):
            here = dict(cgroupfs.membership(os.getpid()))[""]
            cgroupfs.move(self._hierarchies.unified / here.lstrip("/"), os.getpid())

    def undo(self, action: MakeGroup) -> None:
        """Remove the group, once the last of its processes has gone.

        Raises: MechanismError: processes stayed in it; `kill` ends them.
        """
        with explained(f"removing cgroup {action.group}", _HINT):
            cgroupfs.wait_unpopulated(self._unified(action), time.monotonic_ns() + _EMPTY_WITHIN_NS)
            for directory in self._directories(action):
                cgroupfs.remove(directory)

    def exists(self, action: MakeGroup) -> bool:
        """Return whether the group is there in every hierarchy."""
        return all(directory.is_dir() for directory in self._directories(action))

    def kill(self, action: MakeGroup) -> None:
        """Kill every process of the group, those being forked too.

        Raises: MechanismError.
        """
        with explained(f"killing the processes of cgroup {action.group}", _HINT):
            cgroupfs.kill(self._unified(action))

    def usage(self, action: MakeGroup) -> GroupUsage:
        """Observe the group.

        Raises: MechanismError: the group is gone, or unreadable.
        """
        with explained(f"reading cgroup {action.group}", _HINT):
            memory, directory = self._memory, self._memory_directory(action)
            return GroupUsage(
                cpus=self._cpuset.cpus(self._cpuset_directory(action)) if self._cpuset else action.cpus,
                memory_limit_bytes=memory.limit_bytes(directory) if memory else None,
                memory_used_bytes=memory.used_bytes(directory) if memory else None,
                oom_kills=memory.oom_kills(directory) if memory else 0,
                pids=cgroupfs.processes(self._unified(action)),
                unenforced=self._unenforced(action),
            )

    def _unenforced(self, action: MakeGroup) -> tuple[str, ...]:
        if self._cpuset is None:
            return ("cores: this host offers no cpuset controller, so the application may run on any CPU",)
        return self._cpuset.unenforced(self._cpuset_directory(action), action.exclusive)

    def found(self, instance: str) -> tuple[str, ...]:
        """Return the groups of the instance that exist in any hierarchy, by name.

        Raises: MechanismError.
        """
        prefix = cgroupfs.directory_name(instance, "")
        with explained("listing cgroups", _HINT):
            paths = [path for root in self._hierarchies.roots() for path in root.glob(f"{prefix}*") if path.is_dir()]
        return tuple(sorted({path.name.removeprefix(prefix) for path in paths}))

    def _directories(self, action: MakeGroup) -> tuple[Path, ...]:
        name = cgroupfs.directory_name(action.instance, action.group)
        return tuple(root / name for root in self._hierarchies.roots())

    def _unified(self, action: MakeGroup) -> Path:
        return self._hierarchies.unified / cgroupfs.directory_name(action.instance, action.group)

    def _cpuset_directory(self, action: MakeGroup) -> Path:
        controller = self._hierarchies.cpuset
        root = controller.root if controller else self._hierarchies.unified
        return root / cgroupfs.directory_name(action.instance, action.group)

    def _memory_directory(self, action: MakeGroup) -> Path:
        controller = self._hierarchies.memory
        root = controller.root if controller else self._hierarchies.unified
        return root / cgroupfs.directory_name(action.instance, action.group)


class GroupCpus:
    """Mechanism of SetCpus: a running group on other CPUs."""

    def __init__(self, hierarchies: cgroupfs.Hierarchies) -> None:
        self._controller = hierarchies.cpuset

    def apply(self, action: SetCpus) -> None:
        """Put the group on the action's CPUs.

        Raises: MechanismError.
        """
        self._set(action, action.cpus)

    def undo(self, action: SetCpus) -> None:
        """Put the group back on the CPUs that it had before, if it is still there.

        Raises: MechanismError.
        """
        self._set(action, action.before)

    def _set(self, action: SetCpus, cpus: CpuSet) -> None:
        if self._controller is None:
            return
        directory = self._controller.root / cgroupfs.directory_name(action.instance, action.group)
        with explained(f"changing the CPUs of cgroup {action.group} to {cpus}", _HINT):
            if directory.is_dir():
                cpuset(self._controller).set_cpus(directory, cpus)


class Membership:
    """Mechanism of JoinGroup: the holder in the lease's group, and everything of the group back out."""

    def __init__(self, hierarchies: cgroupfs.Hierarchies) -> None:
        self._hierarchies = hierarchies

    def apply(self, action: JoinGroup) -> None:
        """Move the process, all its threads, into the group in every hierarchy.

        Raises: MechanismError: the process is gone, or a hierarchy refused it.
        """
        name = cgroupfs.directory_name(action.instance, action.group)
        with explained(f"moving process {action.pid} into cgroup {action.group}", _JOIN_HINT):
            for root in self._hierarchies.roots():
                cgroupfs.move(root / name, action.pid)

    def undo(self, action: JoinGroup) -> None:
        """Move every process of the group, those it forked too, to where the holder came from.

        Raises: MechanismError.
        """
        name = cgroupfs.directory_name(action.instance, action.group)
        with explained(f"moving the processes of cgroup {action.group} back", _JOIN_HINT):
            for root in self._hierarchies.roots():
                _evacuate(root / name, self._origin(action, root))

    def _origin(self, action: JoinGroup, root: Path) -> Path:
        """Return the directory the holder came from in the hierarchy of *root*, or *root* where that is gone."""
        for controllers, path in action.origin:
            if self._is_hierarchy(root, controllers.split(",")):
                came_from = root / path.lstrip("/")
                return came_from if came_from.is_dir() else root
        return root

    def _is_hierarchy(self, root: Path, controllers: list[str]) -> bool:
        if controllers == [""]:
            return root == self._hierarchies.unified
        legacy = (self._hierarchies.cpuset, self._hierarchies.memory)
        return any(each and each.version == 1 and each.root == root and each.name in controllers for each in legacy)


def _evacuate(directory: Path, target: Path) -> None:
    """Move every process out of a group, again until none was forked meanwhile."""
    deadline_ns = time.monotonic_ns() + _EMPTY_WITHIN_NS
    while pids := cgroupfs.processes(directory):
        if time.monotonic_ns() > deadline_ns:
            raise OSError(errno.EBUSY, "its processes fork faster than they can be moved", str(directory))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                cgroupfs.move(target, pid)
