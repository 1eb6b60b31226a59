"""Observe: journal entry and kernel state → the status of a lease, or a device unit, as clients are told it."""

from __future__ import annotations

import logging

import msgspec

from nomx.alloc import names
from nomx.alloc.actions import CountCrossings, MakeGroup, MakePort, PlugPort
from nomx.api.lease import Crossings, DeviceUnit, LeaseStatus, Traffic
from nomx.daemon.journal import Entry
from nomx.daemon.kernel import Kernel
from nomx.errors import NomxError
from nomx.mech.cgroup import GroupUsage
from nomx.types import CpuSet

MAX_PIDS = 64
"""How many of a lease's processes a status names; a lease may have thousands, a message may not."""

_log = logging.getLogger("nomx.daemon.observe")
_NO_USAGE = GroupUsage(CpuSet(), None, None, 0, (), ())


def lease_status(kernel: Kernel, entry: Entry, uncounted: str, now_ns: int) -> LeaseStatus:
    """Observe one lease at *now_ns*. What cannot be read is left empty, and logged: half a status beats none."""
    group, port, counter = _parts(entry)
    usage = _usage(kernel, group)
    crossings, traffic, why_not = _crossings(kernel, entry, counter, uncounted)
    if port is not None:
        traffic = _traffic(kernel, port.port)
    return LeaseStatus(
        record=entry.record,
        state=entry.record.state,
        cpus=str(usage.cpus),
        exclusive=group.exclusive,
        memory_limit_bytes=usage.memory_limit_bytes,
        memory_used_bytes=usage.memory_used_bytes,
        device=entry.device,
        traffic=traffic,
        crossings=crossings,
        uncounted=why_not,
        oom_kills=usage.oom_kills,
        pids=usage.pids[:MAX_PIDS],
        seconds=(now_ns - entry.record.granted_at_ns) / 1e9,
        unenforced=usage.unenforced,
    )


def ended_status(status: LeaseStatus, reason: str) -> LeaseStatus:
    """Return the last status of a lease as it is kept: over, and why."""
    record = msgspec.structs.replace(status.record, state="ended")
    if status.oom_kills:
        limit = status.memory_limit_bytes or 0
        reason = f"{reason}; {status.oom_kills} of its processes killed: out of memory at {limit >> 20} MiB"
    return msgspec.structs.replace(status, record=record, state="ended", end_reason=reason)


def lease_unit(kernel: Kernel, entry: Entry) -> DeviceUnit | None:
    """Return the device unit that a lease holds, if its path has one."""
    _, port, _ = _parts(entry)
    return None if port is None else _unit(kernel, port, names.soft_unit(port.port), "soft", entry.record.lease)


def station_unit(kernel: Kernel, station: PlugPort) -> DeviceUnit:
    """Return a station, or the host's port, as a device unit."""
    is_host = station.port == names.HOST_SLOT
    return _unit(kernel, station, names.station_unit(station.port), "host" if is_host else "station", "host")


def _unit(kernel: Kernel, port: MakePort | PlugPort, unit: str, kind: str, holder: str) -> DeviceUnit:
    traffic = _traffic(kernel, port.port)
    return DeviceUnit(
        unit=unit,
        kind=kind,
        ifname=port.ifname,
        mac=port.mac,
        ip4=port.ip4,
        holder=holder,
        rx_packets=traffic.rx_packets,
        tx_packets=traffic.tx_packets,
        drops=traffic.drops,
    )


def _parts(entry: Entry) -> tuple[MakeGroup, MakePort | None, CountCrossings | None]:
    group = next(action for action in entry.actions if isinstance(action, MakeGroup))
    port = next((action for action in entry.actions if isinstance(action, MakePort)), None)
    counter = next((action for action in entry.actions if isinstance(action, CountCrossings)), None)
    return group, port, counter


def _usage(kernel: Kernel, group: MakeGroup) -> GroupUsage:
    try:
        return kernel.group(group)
    except NomxError as error:
        _log.warning("group not observed group=%s: %s", group.group, error)
        return _NO_USAGE


def _traffic(kernel: Kernel, slot: int) -> Traffic:
    try:
        return kernel.traffic(slot)
    except NomxError as error:
        _log.warning("traffic not observed slot=%d: %s", slot, error)
        return Traffic()


def _crossings(
    kernel: Kernel, entry: Entry, counter: CountCrossings | None, uncounted: str
) -> tuple[Crossings | None, Traffic, str]:
    """Return the crossings, the traffic at the group's sockets, and why nothing was counted."""
    if counter is None:
        return None, Traffic(), uncounted if entry.record.spec.count_crossings else "the request left counting out"
    try:
        crossings, traffic = kernel.crossings(counter)
    except NomxError as error:
        _log.warning("crossings not observed group=%s: %s", counter.group, error)
        return None, Traffic(), str(error)
    return crossings, traffic, ""
