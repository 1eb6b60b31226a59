"""Counts the kernel crossings of leases: `crossings.bpf.c` loaded, attached while somebody is counted, and read.

The programs look at every system call of the machine, so they are attached only while a group is
counted. What they counted dies with the daemon: a new one starts at 0 for the leases it adopts.
"""

from __future__ import annotations

import struct

from nomx.alloc.actions import CountCrossings
from nomx.api.lease import Crossings, Traffic
from nomx.linux import abi, cgroupfs, netns
from nomx.linux.bpf import Link, Object
from nomx.linux.links import Links
from nomx.mech.mechanism import explained

_HINT = "tracing programs need BTF and CAP_PERFMON: see `nomx doctor`; --no-count does without"
_TRACED = ("nomx_syscall", "nomx_fault", "nomx_leave", "nomx_poll")
_AT_SOCKETS = ("nomx_socket_rx", "nomx_socket_tx")


class CrossingsCounter:
    """The mechanism of CountCrossings."""

    def __init__(self, links: Links, instance: str) -> None:
        """Count devices among *links*, the interfaces of the instance's switch namespace."""
        self._links = links
        self._netns_id = netns.identity(netns.path(instance))
        self._object: Object | None = None
        self._everywhere: list[Link] = []
        self._at_group: dict[str, list[Link]] = {}

    def apply(self, action: CountCrossings) -> None:
        with explained(f"count the crossings of {action.group}", _HINT):
            tracer = self._loaded()
            group = _group_id(action)
            tracer.maps["nomx_groups"].update(group, bytes(abi.CrossingCounters.FORMAT.size))
            if action.ifname:
                tracer.maps["nomx_owners"].update(self._interface(action.ifname), group)
            directory = cgroupfs.unified_path(action.instance, action.group)
            self._at_group[action.group] = [tracer.programs[name].attach_cgroup(directory) for name in _AT_SOCKETS]
            if not self._everywhere:
                self._everywhere = [tracer.programs[name].attach() for name in _TRACED]

    def undo(self, action: CountCrossings) -> None:
        links = self._at_group.pop(action.group, [])
        for link in links:
            link.close()
        if not self._at_group:
            for link in self._everywhere:
                link.close()
            self._everywhere = []
        if self._object is None or not links:  # counted by a daemon that is no more: nothing is left of it
            return
        with explained(f"stop counting the crossings of {action.group}", _HINT):
            group = _group_id(action)
            self._object.maps["nomx_groups"].delete(group)
            owners = self._object.maps["nomx_owners"]
            for interface in [each for each in owners.keys() if owners.lookup(each) == group]:  # noqa: SIM118 (a BPF map)
                owners.delete(interface)

    def exists(self, action: CountCrossings) -> bool:
        """Return whether this daemon counts the group."""
        return action.group in self._at_group

    def read(self, action: CountCrossings) -> tuple[Crossings, Traffic]:
        """Return the group's crossings, and the packets at its ordinary sockets."""
        values = []
        if self._object is not None and self.exists(action):
            values = self._object.maps["nomx_groups"].lookup_each_cpu(_group_id(action))
        counted = abi.CrossingCounters.total(values)
        crossings = Crossings(
            syscalls=counted.syscalls,
            page_faults=counted.page_faults,
            voluntary_switches=counted.voluntary_switches,
            involuntary_switches=counted.involuntary_switches,
            napi_polls=counted.napi_polls,
        )
        traffic = Traffic(
            rx_packets=counted.socket_rx_packets,
            tx_packets=counted.socket_tx_packets,
            rx_bytes=counted.socket_rx_bytes,
            tx_bytes=counted.socket_tx_bytes,
            counted_at="socket",
        )
        return crossings, traffic

    def close(self) -> None:
        """Stop counting everybody."""
        for link in [*self._everywhere, *(link for links in self._at_group.values() for link in links)]:
            link.close()
        self._everywhere, self._at_group = [], {}
        if self._object is not None:
            self._object.close()
            self._object = None

    def _loaded(self) -> Object:
        if self._object is None:
            self._object = Object.load_named("crossings")
        return self._object

    def _interface(self, ifname: str) -> bytes:
        index = self._links.index(ifname)
        if index is None:
            raise FileNotFoundError(2, "no such interface in the switch namespace", ifname)
        return struct.pack("=II", self._netns_id, index)


def _group_id(action: CountCrossings) -> bytes:
    """The kernel's id of a cgroup is the inode number of its v2 directory."""
    inode = cgroupfs.unified_path(action.instance, action.group).stat().st_ino
    return inode.to_bytes(8, "little")
