"""Linux as it is: each action to its mechanism, and what the daemon observes of this machine.

Without what soft VFs need (veth, BPF, AF_XDP) the daemon still hands out cores and memory, on the
kernel path, and says in its verdicts what is missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nomx.alloc import names
from nomx.alloc.actions import Action, CountCrossings, JoinGroup, MakeGroup, MakePort, PlugPort, SetCpus
from nomx.alloc.inventory import Capacity
from nomx.alloc.ladder import SOFT_NEEDS, judge
from nomx.api.lease import MAX_QUEUES, Crossings, LeaseSpec, Traffic, UmemGeometry, Verdict
from nomx.daemon.settings import Settings
from nomx.errors import InvalidRequest, MechanismError, NomxError, NotSupported
from nomx.linux import cgroupfs, netns, process, routes
from nomx.linux.probe import probe
from nomx.mech.binder import Binder, Binding
from nomx.mech.cgroup import GroupCpus, Groups, GroupUsage, Membership
from nomx.mech.crossings import CrossingsCounter
from nomx.mech.mechanism import explained
from nomx.mech.reaper import Reaper
from nomx.mech.softvf import SoftVf
from nomx.mech.station import Station
from nomx.mech.switch import Switch
from nomx.types import CpuSet, Finding

_log = logging.getLogger("nomx.daemon.linux_kernel")

_HINT = "see `nomx doctor`"


@dataclass(frozen=True)
class _Network:
    """What exists only where soft VFs do."""

    switch: Switch
    soft: SoftVf
    station: Station
    binder: Binder
    counter: CrossingsCounter
    reaper: Reaper

    @classmethod
    def open(cls, instance: str) -> _Network:
        switch = Switch(instance)
        counter = CrossingsCounter(switch.links, instance)
        reaper = Reaper(netns.path(instance))
        return cls(switch, SoftVf(switch), Station(switch), Binder(switch), counter, reaper)

    def close(self, *, remove: bool) -> None:
        self.reaper.close()
        self.counter.close()
        self.switch.close(remove=remove)


class LinuxKernel:
    """The real `Kernel`. All calls come from one thread."""

    def __init__(self, settings: Settings, groups: Groups, mechanisms: dict[type[Action], Any]) -> None:
        self._settings = settings
        self._groups = groups
        self._mechanisms = mechanisms
        self._network: _Network | None = None
        self._verdicts: tuple[Verdict, ...] = ()
        self._uncounted = ""

    @classmethod
    def open(cls, settings: Settings) -> LinuxKernel:
        """Open what this machine has.

        Raises:
            InvalidRequest: the prefix is on the host's network already.
            MechanismError: no control groups.
        """
        _check_prefix(settings)
        hierarchies = _hierarchies(settings.instance)
        groups = Groups(hierarchies)
        mechanisms = {MakeGroup: groups, SetCpus: GroupCpus(hierarchies), JoinGroup: Membership(hierarchies)}
        kernel = cls(settings, groups, mechanisms)
        kernel._open_network()
        return kernel

    def _open_network(self) -> None:
        found = {feature: Finding(feature, available=True, reason="") for feature in SOFT_NEEDS}
        found |= {feature: probe(feature) for feature in ("sriov", "iommu", "vfio")}
        self._verdicts = judge(found)
        try:
            self._network = network = _Network.open(self._settings.instance)
        except (MechanismError, NotSupported) as error:
            self.withdraw_soft(error)
            self._uncounted = f"crossings are counted by BPF, as the soft path needs it: {error}"
            return
        self._mechanisms |= {MakePort: network.soft, PlugPort: network.station, CountCrossings: network.counter}
        tracing = probe("tp_btf")
        self._uncounted = "" if tracing.available else f"{tracing.reason}; {tracing.remedy}"

    def withdraw_soft(self, reason: NomxError) -> None:
        """Let the verdict on the soft path be *reason*."""
        _log.warning("no soft VFs here: %s", reason)
        remedy = reason.fields.get("remedy") or reason.fields.get("hint", "")
        refused = Verdict("soft", available=False, reason=str(reason), remedy=remedy)
        self._verdicts = tuple(refused if each.path == "soft" else each for each in self._verdicts)

    def capacity(self) -> Capacity:
        """See `nomx.daemon.kernel.Kernel`, also for the methods below."""
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - self._settings.system_memory_bytes
        return Capacity(
            cpus=self._groups.available_cpus(self._settings.instance) or CpuSet(os.sched_getaffinity(0)),
            system_cores=self._settings.system_cores,
            memory_bytes=max(0, memory_bytes),
            soft_queues=min(MAX_QUEUES, os.cpu_count() or 1),  # a veth has at most one queue a CPU
            verdicts=self._verdicts,
            missing_controllers=self._groups.missing,
            uncounted=self._uncounted,
        )

    # -- steps -----------------------------------------------------------------------------------

    def apply(self, action: Action) -> None:
        """Do one step."""
        self._let_reaper_finish(action)
        self._mechanism(action).apply(action)

    def undo(self, action: Action) -> None:
        """Take one step back. A soft VF is cut off at once, and its interfaces are deleted soon after."""
        if isinstance(action, MakePort) and self._network is not None:
            self._network.soft.cut_off(action)
            self._network.reaper.delete(action.switch_ifname)
        else:
            self._mechanism(action).undo(action)

    def _let_reaper_finish(self, action: Action) -> None:
        if isinstance(action, MakePort | PlugPort) and self._network is not None:
            self._network.reaper.wait_for(action.switch_ifname)

    def exists(self, action: Action) -> bool:
        """Observe one step."""
        self._let_reaper_finish(action)
        return bool(self._mechanism(action).exists(action))

    def _mechanism(self, action: Action) -> Any:
        try:
            return self._mechanisms[type(action)]
        except KeyError:
            soft = next(verdict for verdict in self._verdicts if verdict.path == "soft")
            raise NotSupported(feature=type(action).__name__, missing=soft.reason, remedy=soft.remedy) from None

    def bind(self, action: MakePort, umem_fd: int, umem: UmemGeometry, spec: LeaseSpec) -> Binding:
        """Bind a soft VF."""
        network = self._needed()
        binding = network.binder.bind(action, umem_fd, umem, spec.require, busy_poll=spec.busy_poll)
        network.reaper.keep(action.switch_ifname, binding.xsk_fds)
        return binding

    def kill(self, action: MakeGroup) -> None:
        """Kill what is in a group."""
        self._groups.kill(action)

    # -- observations ----------------------------------------------------------------------------

    def group(self, action: MakeGroup) -> GroupUsage:
        """Observe a group."""
        return self._groups.usage(action)

    def traffic(self, slot: int) -> Traffic:
        """Read the counters of a port."""
        with explained(f"reading the counters of port {slot}", _HINT):
            return self._needed().switch.traffic(slot)

    def crossings(self, action: CountCrossings) -> tuple[Crossings, Traffic]:
        """Read the crossings of a group."""
        with explained(f"reading the crossings of {action.group}", _HINT):
            return self._needed().counter.read(action)

    def _needed(self) -> _Network:
        if self._network is None:
            soft = next(verdict for verdict in self._verdicts if verdict.path == "soft")
            raise NotSupported(feature="a soft VF", missing=soft.reason, remedy=soft.remedy)
        return self._network

    def is_network_namespace(self, fd: int) -> bool:
        """Ask the kernel what a descriptor is."""
        return netns.is_namespace(fd)

    def start_time(self, pid: int) -> int | None:
        """Observe a process."""
        try:
            return process.start_time(pid)
        except ProcessLookupError:
            return None

    def membership(self, pid: int) -> tuple[tuple[str, str], ...]:
        """Read where a process is."""
        with explained(f"reading the cgroups of process {pid}", "has it ended meanwhile?"):
            return cgroupfs.membership(pid)

    # -- the end ---------------------------------------------------------------------------------

    def sweep(self, keep: Sequence[Action]) -> tuple[str, ...]:
        """Remove what nobody claims; processes in a group that goes are moved out, not killed."""
        instance = self._settings.instance
        groups = {action.group for action in keep if isinstance(action, MakeGroup)}
        slots = {action.port for action in keep if isinstance(action, MakePort | PlugPort)}
        removed: list[str] = []
        for group in self._groups.found(instance):
            if group not in groups:
                self.undo(JoinGroup(instance, group, pid=0))
                self.undo(MakeGroup(instance, group, CpuSet(), exclusive=False, memory_bytes=None))
                removed.append(f"cgroup {group}")
        for slot in sorted(self._found_slots() - slots):
            self.undo(_port_of(instance, slot))
            removed.append(f"port {slot}")
        return tuple(removed)

    def _found_slots(self) -> set[int]:
        if self._network is None:
            return set()
        with explained("listing the switch's ports", _HINT):
            return {int(ifname[1:]) for ifname in self._network.switch.interfaces()}

    def close(self, *, remove: bool) -> None:
        """Let go."""
        try:
            if self._network is not None:
                self._network.close(remove=remove)
            if remove:
                with explained("unmounting the daemon's cgroup hierarchy", _HINT):
                    cgroupfs.unmount_unified(cgroupfs.unified_mount_point(self._settings.instance))
        except NomxError as error:
            _log.error("not everything was closed: %s", error)


def _port_of(instance: str, slot: int) -> MakePort:
    """Return a port as far as its undo needs it: the names that derive from its slot."""
    return MakePort(
        instance=instance,
        port=slot,
        switch_ifname=names.switch_ifname(slot),
        ifname=names.device_ifname(slot),
        mac=names.mac(instance, slot),
        ip4="",
        prefix_len=0,
        ip6=names.ip6(instance, slot),
        queues=0,
        mtu_bytes=0,
        bandwidth_bps=None,
    )


def _hierarchies(instance: str) -> cgroupfs.Hierarchies:
    """Find the host's control groups; mount the v2 hierarchy for ourselves where nobody has."""
    with explained("finding the control groups", "mount cgroup2, or run a kernel that has it"):
        try:
            return cgroupfs.hierarchies()
        except FileNotFoundError:
            cgroupfs.mount_unified(cgroupfs.unified_mount_point(instance))
            return cgroupfs.hierarchies()


def _check_prefix(settings: Settings) -> None:
    """Refuse a prefix that would hide part of the network the host is on, its SSH session perhaps."""
    ours = names.host_ifname(settings.instance)
    with explained("reading the host's routes", _HINT):
        for ifname, network in routes.ipv4_routes():
            if ifname != ours and network.overlaps(settings.prefix):
                expected = f"a prefix that the host does not route ({network} goes to {ifname})"
                raise InvalidRequest(field="prefix", value=settings.prefix_text, expected=expected)
