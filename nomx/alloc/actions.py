"""The steps a plan is made of: each is a value that says everything, so that it can be undone from the journal alone.

Every name a step needs (cgroup, interface, port) is derived from the instance and the lease's
number, here and nowhere else; `nomx.mech` has one mechanism for each kind of step, with apply and undo.
"""

from __future__ import annotations

from dataclasses import dataclass

from nomx.types import CpuSet


@dataclass(frozen=True)
class Action:
    """A step of a plan. Applied once, in order; undone in reverse, any number of times."""


@dataclass(frozen=True)
class MakeGroup(Action):
    """Make the lease's cgroup at the top of every hierarchy that counts: `<instance>.<group>`."""

    instance: str
    group: str
    cpus: CpuSet
    exclusive: bool
    memory_bytes: int | None


@dataclass(frozen=True)
class SetCpus(Action):
    """Change the CPUs of an existing group (the shared pool shrinks and grows); *before* is what undo restores."""

    instance: str
    group: str
    cpus: CpuSet
    before: CpuSet


@dataclass(frozen=True)
class JoinGroup(Action):
    """Move process *pid* into the group. Undo moves every process of the group to where *pid* came from."""

    instance: str
    group: str
    pid: int
    origin: tuple[tuple[str, str], ...] = ()
    """Where the process was: (v1 controllers or the empty text for v2, path) of each hierarchy."""


@dataclass(frozen=True)
class MakePort(Action):
    """Make a soft VF: a veth pair in the switch namespace, admitted to the switch at its near end,
    steered to an application at its far end."""

    instance: str
    port: int
    """Slot of the port: index of its counters and, times MAX_QUEUES, of its first XSK."""
    switch_ifname: str
    ifname: str
    mac: str
    ip4: str
    prefix_len: int
    ip6: str
    queues: int
    mtu_bytes: int
    bandwidth_bps: int | None


@dataclass(frozen=True)
class PlugPort(Action):
    """Join a network namespace to the switch as a host: a veth pair, near end in the switch namespace,
    far end in the namespace of *netns* (a path under /proc/PID/ns or /run/netns)."""

    instance: str
    port: int
    switch_ifname: str
    netns: str
    ifname: str
    mac: str
    ip4: str
    prefix_len: int
    ip6: str
    mtu_bytes: int


@dataclass(frozen=True)
class CountCrossings(Action):
    """Count the crossings and socket packets of the group, and the NAPI polls of its device (0: none)."""

    instance: str
    group: str
    ifname: str
