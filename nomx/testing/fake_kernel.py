"""A Linux in memory for tests of the daemon without root: the same steps, the same refusals, and faults on demand.

It was taught these invariants, each of which tests/kernel/test_taught.py proves once on the real one:

1. A step that is applied shows up (`exists`); undone, it is gone; undone again, nothing happens.
2. No group can be given a CPU that another group holds exclusively (cgroup v1).
3. A process that has ended joins no group; one that ends leaves its group.
4. A group with a live process in it is not removed.
5. `kill` ends every process of a group.
6. Undoing a join empties the group and leaves its processes alive.
7. Two ports cannot have one slot.
8. Only a port that exists can be bound, and once.
9. A station goes when its namespace does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from nomx.alloc.actions import Action, CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.alloc.inventory import Capacity
from nomx.api.lease import Crossings, LeaseSpec, Mode, Traffic, UmemGeometry, Verdict
from nomx.errors import MechanismError, NomxError
from nomx.mech.cgroup import GroupUsage
from nomx.types import CpuSet

FOUR_CORES = Capacity(
    cpus=CpuSet(range(4)),
    system_cores=1,
    memory_bytes=4 << 30,
    soft_queues=4,
    verdicts=(
        Verdict("kernel", available=True, reason="ordinary sockets need nothing"),
        Verdict("soft", available=True, reason="veth pairs"),
        Verdict("vf", available=False, reason="no device here has SR-IOV", remedy="use a NIC that has"),
        Verdict("memif", available=False, reason="not handed out yet"),
        Verdict("vfio", available=False, reason="no IOMMU", remedy="enable it in the firmware"),
    ),
)

_COPY_MODE = Mode(zerocopy=False, attach="native", need_wakeup=True, driver="veth", why="veth has no zero-copy AF_XDP")


class Killed(BaseException):
    """The daemon was killed with -9: nothing of it runs any more, so nothing catches this."""


@dataclass
class FakeGroup:
    """A cgroup."""

    cpus: CpuSet
    exclusive: bool
    memory_bytes: int | None
    oom_kills: int = 0


@dataclass(frozen=True)
class FakeBound:
    """What `bind` gives; there are no sockets behind it."""

    mode: Mode = _COPY_MODE
    xsk_fds: tuple[int, ...] = ()
    tx_budget: int = 32


@dataclass
class FakeProcess:
    """A process: when it started, in which group it is (the empty text: in none of ours)."""

    start: int
    group: str = ""


@dataclass
class FakeKernel:
    """The kernel; it outlives the daemons that tests kill on it."""

    capacity_now: Capacity = FOUR_CORES
    processes: dict[int, FakeProcess] = field(default_factory=dict)
    groups: dict[str, FakeGroup] = field(default_factory=dict)
    ports: dict[int, MakePort | PlugPort] = field(default_factory=dict)
    bound: set[int] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=lambda: {"/host"})
    closed: bool = False
    before_step: Callable[[str, Action], None] = lambda verb, action: None
    """Called before each apply and undo; raises what the step shall fail with."""

    # -- what tests do to it ---------------------------------------------------------------------

    def start(self, pid: int, start: int = 1) -> None:
        """Start a process."""
        self.processes[pid] = FakeProcess(start)

    def end(self, pid: int) -> None:
        """End a process; nothing of it stays, not even in its group."""
        del self.processes[pid]

    def fail(self, verb: str, kind: type[Action], times: int = 1) -> None:
        """Let the next *times* steps of a kind fail."""
        left = times

        def step(now: str, action: Action) -> None:
            nonlocal left
            if now == verb and isinstance(action, kind) and left > 0:
                left -= 1
                raise MechanismError(operation=f"{verb} {kind.__name__}", reason="injected", hint="none")

        self.before_step = step

    @property
    def is_empty(self) -> bool:
        """Whether nothing of any lease is left."""
        return not (self.groups or self.counted or [port for port in self.ports.values() if isinstance(port, MakePort)])

    # -- Kernel ----------------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """See `nomx.daemon.kernel.Kernel`, also for the methods below."""
        return self.capacity_now

    def apply(self, action: Action) -> None:
        """Do one step."""
        self.before_step("apply", action)
        match action:
            case MakeGroup():
                self._check_cpus(action.group, action.cpus)
                self.groups[action.group] = FakeGroup(action.cpus, action.exclusive, action.memory_bytes)
            case SetCpus():
                self._set_cpus(action.group, action.cpus)
            case JoinGroup():
                self._join(action)
            case MakePort() | PlugPort():
                if action.port in self.ports:
                    raise _refused(f"making port {action.port}", "EEXIST")
                self.ports[action.port] = action
            case CountCrossings():
                self.counted.add(action.group)

    def undo(self, action: Action) -> None:
        """Take one step back."""
        self.before_step("undo", action)
        match action:
            case MakeGroup():
                if self._members(action.group):
                    raise _refused(f"removing cgroup {action.group}", "EBUSY")
                self.groups.pop(action.group, None)
            case SetCpus():
                self._set_cpus(action.group, action.before)
            case JoinGroup():
                for pid in self._members(action.group):
                    self.processes[pid].group = ""
            case MakePort() | PlugPort():
                self.ports.pop(action.port, None)
                self.bound.discard(action.port)
            case CountCrossings():
                self.counted.discard(action.group)

    def exists(self, action: Action) -> bool:
        """Observe one step."""
        match action:
            case MakeGroup():
                return action.group in self.groups
            case SetCpus():
                return action.group in self.groups and self.groups[action.group].cpus == action.cpus
            case JoinGroup():
                return action.pid in self._members(action.group)
            case PlugPort():
                return action.port in self.ports and action.netns in self.namespaces
            case MakePort():
                return action.port in self.ports
            case CountCrossings():
                return action.group in self.counted
        raise TypeError(action)

    def group(self, action: MakeGroup) -> GroupUsage:
        """Observe a group."""
        if action.group not in self.groups:
            raise _refused(f"reading cgroup {action.group}", "ENOENT")
        found = self.groups[action.group]
        members = tuple(self._members(action.group))
        return GroupUsage(found.cpus, found.memory_bytes, 0, found.oom_kills, members, ())

    def kill(self, action: MakeGroup) -> None:
        """Kill what is in a group."""
        for pid in self._members(action.group):
            self.end(pid)

    def traffic(self, slot: int) -> Traffic:
        """Count nothing."""
        if slot not in self.ports:
            raise _refused(f"reading port {slot}", "ENOENT")
        return Traffic(counted_at="xsk")

    def crossings(self, action: CountCrossings) -> tuple[Crossings, Traffic]:
        """Count nothing."""
        if action.group not in self.counted:
            raise _refused(f"reading crossings of {action.group}", "ENOENT")
        return Crossings(), Traffic(counted_at="socket")

    def bind(self, action: MakePort, umem_fd: int, umem: UmemGeometry, spec: LeaseSpec) -> FakeBound:
        """Bind a port once."""
        if action.port not in self.ports or action.port in self.bound:
            raise _refused(f"binding port {action.port}", "EBUSY" if action.port in self.bound else "ENODEV")
        self.bound.add(action.port)
        return FakeBound()

    def is_network_namespace(self, fd: int) -> bool:
        """Believe it."""
        return fd >= 0

    def start_time(self, pid: int) -> int | None:
        """Observe a process."""
        return self.processes[pid].start if pid in self.processes else None

    def membership(self, pid: int) -> tuple[tuple[str, str], ...]:
        """Return that it is where every process begins."""
        if pid not in self.processes:
            raise _refused(f"reading the cgroups of process {pid}", "ESRCH")
        return (("", "/"),)

    def sweep(self, keep: Sequence[Action]) -> tuple[str, ...]:
        """Remove what nobody claims."""
        groups = {action.group for action in keep if isinstance(action, MakeGroup)}
        slots = {action.port for action in keep if isinstance(action, MakePort | PlugPort)}
        orphan_groups = sorted(self.groups.keys() - groups)
        orphan_ports = sorted(self.ports.keys() - slots)
        for group in orphan_groups:
            for pid in self._members(group):
                self.processes[pid].group = ""
            del self.groups[group]
            self.counted.discard(group)
        for slot in orphan_ports:
            del self.ports[slot]
            self.bound.discard(slot)
        return (*orphan_groups, *(f"port {slot}" for slot in orphan_ports))

    def withdraw_soft(self, reason: NomxError) -> None:
        """Change the verdict."""
        refused = Verdict("soft", available=False, reason=str(reason))
        verdicts = tuple(refused if each.path == "soft" else each for each in self.capacity_now.verdicts)
        self.capacity_now = replace(self.capacity_now, verdicts=verdicts)

    def close(self, *, remove: bool) -> None:
        """Let go."""
        self.closed = True

    # -- rules -----------------------------------------------------------------------------------

    def _members(self, group: str) -> list[int]:
        return [pid for pid, process in self.processes.items() if process.group == group]

    def _join(self, action: JoinGroup) -> None:
        if action.pid not in self.processes or action.group not in self.groups:
            raise _refused(f"moving process {action.pid} into cgroup {action.group}", "ESRCH")
        self.processes[action.pid].group = action.group

    def _set_cpus(self, group: str, cpus: CpuSet) -> None:
        if group in self.groups:
            self._check_cpus(group, cpus)
            self.groups[group].cpus = cpus

    def _check_cpus(self, group: str, cpus: CpuSet) -> None:
        for name, other in self.groups.items():
            if name != group and other.exclusive and other.cpus & cpus:
                raise _refused(f"giving {group} CPUs {cpus}", f"EINVAL: {name} holds {other.cpus} exclusively")


def _refused(operation: str, reason: str) -> MechanismError:
    return MechanismError(operation=operation, reason=reason, hint="as the real kernel would refuse it")
