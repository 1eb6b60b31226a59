"""What there is and who holds it, as a value: the planner's whole world. Pure.

The daemon takes a snapshot before each plan: capacity observed from the kernel, holdings and
stations from its journal. Nothing here can go stale, because nothing here changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from nomx.alloc import names
from nomx.alloc.actions import Action, MakeGroup, MakePort, PlugPort
from nomx.api.lease import Verdict
from nomx.types import CpuSet

LADDER = ("kernel", "soft", "vf", "memif", "vfio")
"""Every path that nomx has a word for, lowest first (`nomx.alloc.ladder` judges them)."""


@dataclass(frozen=True)
class Capacity:
    """What this machine could hand out if nobody held anything."""

    cpus: CpuSet
    """CPUs that no other cpuset of the host holds exclusively."""
    system_cores: int
    """Of these, how many (the lowest) are never handed out exclusively."""
    memory_bytes: int
    soft_queues: int
    """The most queues that one soft VF may have."""
    verdicts: tuple[Verdict, ...]
    """One for each path of LADDER, in its order."""
    missing_controllers: tuple[str, ...] = ()
    """cgroup controllers that the host does not offer: `cpuset`, `memory`."""
    uncounted: str = ""
    """Why crossings cannot be counted here; empty where they can."""

    @property
    def system_cpus(self) -> CpuSet:
        return CpuSet(sorted(self.cpus)[: self.system_cores])


@dataclass(frozen=True)
class Holding:
    """What one lease holds, until the last of it is undone."""

    lease: str
    number: int
    holder_pid: int
    group: MakeGroup
    port: MakePort | None

    @classmethod
    def of(cls, lease: str, number: int, holder_pid: int, actions: Iterable[Action]) -> Holding:
        """Read a holding off the actions that made it."""
        done = tuple(actions)
        group = next(action for action in done if isinstance(action, MakeGroup))
        port = next((action for action in done if isinstance(action, MakePort)), None)
        return cls(lease, number, holder_pid, group, port)


@dataclass(frozen=True)
class Inventory:
    """One snapshot. `next_lease` is the number in the next lease's name, never used before."""

    instance: str
    prefix: IPv4Network
    mtu_bytes: int
    capacity: Capacity
    holdings: tuple[Holding, ...]
    stations: tuple[PlugPort, ...]
    next_lease: int

    @property
    def exclusive_cpus(self) -> CpuSet:
        """CPUs that leases hold exclusively."""
        return CpuSet(cpu for held in self.holdings if held.group.exclusive for cpu in held.group.cpus)

    @property
    def pool_cpus(self) -> CpuSet:
        """CPUs that all leases without cores of their own share; the system's are among them."""
        return CpuSet(self.capacity.cpus - self.exclusive_cpus)

    @property
    def free_cpus(self) -> CpuSet:
        """CPUs that a lease could get exclusively."""
        return CpuSet(self.pool_cpus - self.capacity.system_cpus)

    @property
    def free_memory_bytes(self) -> int:
        """Memory that is promised to nobody; leases without a limit were promised none."""
        return self.capacity.memory_bytes - sum(held.group.memory_bytes or 0 for held in self.holdings)

    @property
    def free_slots(self) -> tuple[int, ...]:
        """Slots that no lease and no station has, lowest first."""
        taken = {held.number for held in self.holdings} | {station.port for station in self.stations}
        return tuple(slot for slot in range(1, names.MAX_SLOTS) if slot not in taken)

    @property
    def addresses(self) -> dict[str, str]:
        """Who has each IPv4 address of the prefix: a lease, or a station's unit."""
        held = {each.port.ip4: each.lease for each in self.holdings if each.port is not None}
        host = {str(names.ip4(self.prefix, names.HOST_SLOT)): names.station_unit(names.HOST_SLOT)}
        return host | held | {station.ip4: names.station_unit(station.port) for station in self.stations}
