"""Answer: one call of one client → one answer, with descriptors where it has any. Knows no socket and no asyncio.

Checks who may do what, turns calls into what `Leases` does, and its results into messages. All
calls come from one thread, one at a time, so that a plan is carried out in the world it was made for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nomx.alloc import names
from nomx.alloc.actions import JoinGroup, MakePort
from nomx.alloc.plan import describe
from nomx.alloc.planner import Request
from nomx.api import messages as m
from nomx.api.lease import DeviceGrant, Grant, UmemGeometry
from nomx.daemon.journal import Entry
from nomx.daemon.kernel import Bound, Kernel
from nomx.daemon.leases import Leases
from nomx.daemon.observe import lease_unit, station_unit
from nomx.daemon.settings import Settings
from nomx.errors import InvalidRequest, MechanismError, NotGranted, NotPermitted, NotSupported, ProtocolError
from nomx.version import VERSION

PAGE = 24
"""Leases or units in one answer, so that any of them fits a message."""

_NAME = re.compile(r"[A-Za-z]+(\d{0,18})")


@dataclass(frozen=True)
class Caller:
    """Who calls, as the kernel says."""

    pid: int
    uid: int


@dataclass(frozen=True)
class Answered:
    """An answer, and the descriptors to send beside it; the sender closes them."""

    body: m.AnswerBody
    fds: tuple[int, ...] = ()


class Service:
    """The daemon's operations."""

    def __init__(self, settings: Settings, kernel: Kernel, leases: Leases) -> None:
        self._settings = settings
        self._kernel = kernel
        self._leases = leases
        self._operations: dict[type[m.Operation], Callable[[Caller, Any, Sequence[int]], Answered]] = {
            m.Hello: self._hello,
            m.Acquire: self._acquire,
            m.Attach: self._attach,
            m.Release: self._release,
            m.Leases: self._list,
            m.Show: self._show,
            m.Devices: self._devices,
            m.Plug: self._plug,
            m.Unplug: self._unplug,
            m.Doctor: self._doctor,
        }

    def answer(self, caller: Caller, body: m.Body, fds: Sequence[int]) -> Answered:
        """Carry out one call; *fds* came with it and stay the caller's of this method.

        Raises: NomxError: the answer is that error.
        """
        wanted = 1 if isinstance(body, m.Attach | m.Plug) else 0
        if len(fds) != wanted:
            reason = f"{len(fds)} descriptors came with a call that takes {wanted}"
            raise ProtocolError(reason=reason, remedy="send what the call's description says")
        return self._operations[type(body)](caller, body, fds)

    def _hello(self, _caller: Caller, _body: m.Hello, _fds: Sequence[int]) -> Answered:
        inventory = self._leases.inventory()
        capacity = inventory.capacity
        return Answered(
            m.Welcome(
                pid=os.getpid(),
                version=VERSION,
                instance=self._settings.instance,
                prefix=self._settings.prefix_text,
                embedded=self._settings.embedded,
                capacity={
                    "cores": len(capacity.cpus) - capacity.system_cores,
                    "memory_bytes": capacity.memory_bytes,
                    "slots": names.MAX_SLOTS - 1,
                },
                free={
                    "cores": len(inventory.free_cpus),
                    "memory_bytes": inventory.free_memory_bytes,
                    "slots": len(inventory.free_slots),
                },
            )
        )

    def _acquire(self, caller: Caller, body: m.Acquire, _fds: Sequence[int]) -> Answered:
        request = self._request(caller, body)
        if body.dry_run:
            planned = self._leases.plan(request)
            steps = tuple(describe(action) for action in planned.actions)
            return Answered(m.Planned(planned.path, steps, planned.verdicts))
        planned, entry = self._leases.grant(request)
        status = self._leases.status(entry.record.lease)
        grant = Grant(
            lease=entry.record.lease,
            path=planned.path,
            cpus=status.cpus,
            exclusive=status.exclusive,
            memory_bytes=status.memory_limit_bytes,
            verdicts=planned.verdicts,
            unenforced=status.unenforced,
            instance=self._settings.instance,
        )
        return Answered(m.Granted(grant))

    def _request(self, caller: Caller, body: m.Acquire) -> Request:
        start = self._kernel.start_time(caller.pid)
        if start is None:
            remedy = "call from the process that will hold the lease, in the daemon's pid namespace"
            raise NotPermitted(operation="holding a lease", missing=f"a live process {caller.pid}", remedy=remedy)
        return Request(body.spec, caller.uid, caller.pid, start, self._kernel.membership(caller.pid))

    def _attach(self, caller: Caller, body: m.Attach, fds: Sequence[int]) -> Answered:
        entry = self._leases.find(body.lease)
        self._check_holder(caller, entry, "attaching to its device unit")
        port = next((action for action in entry.actions if isinstance(action, MakePort)), None)
        if port is None:
            missing = f"lease {body.lease} is on path {entry.record.path}, which has no device unit"
            raise NotSupported(feature="attaching", missing=missing, remedy="acquire a lease on path soft")
        if entry.device is not None:
            raise NotGranted(resource=f"binding of {entry.device.unit}", asked=1, available=0, holder=body.lease)
        bound = self._kernel.bind(port, fds[0], body.umem, entry.record.spec)
        device = _device(port, body.umem, bound)
        self._leases.attached(entry, device)
        return Answered(m.Attached(device), tuple(bound.xsk_fds))

    def _release(self, caller: Caller, body: m.Release, _fds: Sequence[int]) -> Answered:
        entry = self._leases.find(body.lease)
        if caller.uid not in (0, entry.record.uid):
            missing = f"it is a lease of uid {entry.record.uid}, and you are uid {caller.uid}"
            raise NotPermitted(
                operation=f"releasing {body.lease}", missing=missing, remedy="ask its owner, or use sudo"
            )
        how = "killed" if body.kill else "released"
        self._leases.end(body.lease, f"{how} by uid {caller.uid}", kill=body.kill)
        if any(left.record.lease == body.lease for left in self._leases.live):
            hint = "it will be tried again; see the daemon's log"
            raise MechanismError(operation=f"releasing {body.lease}", reason="something of it stays", hint=hint)
        return Answered(m.Done())

    def _list(self, _caller: Caller, body: m.Leases, _fds: Sequence[int]) -> Answered:
        every = [entry.record.lease for entry in self._leases.live]
        page, more = _page(every, body.after)
        return Answered(m.LeaseList(tuple(self._leases.status(lease) for lease in page), more))

    def _show(self, _caller: Caller, body: m.Show, _fds: Sequence[int]) -> Answered:
        return Answered(m.Shown(self._leases.status(body.lease)))

    def _devices(self, _caller: Caller, body: m.Devices, _fds: Sequence[int]) -> Answered:
        stations = {names.station_unit(each.port): each for each in self._leases.stations}
        ports = {names.soft_unit(each.record.number): each for each in self._leases.live if each.record.path == "soft"}
        page, more = _page([*stations, *ports], body.after)
        units = [
            station_unit(self._kernel, stations[unit]) if unit in stations else lease_unit(self._kernel, ports[unit])
            for unit in page
        ]
        return Answered(m.DeviceList(tuple(unit for unit in units if unit is not None), more))

    def _plug(self, caller: Caller, body: m.Plug, fds: Sequence[int]) -> Answered:
        self._check_root(caller, "plugging a namespace into the switch")
        if not self._kernel.is_network_namespace(fds[0]):
            expected = "a network namespace, such as /run/netns/NAME opened for reading"
            raise InvalidRequest(field="netns", value=f"descriptor {fds[0]}", expected=expected)
        station = self._leases.plug(f"/proc/{os.getpid()}/fd/{fds[0]}", body.ifname, body.address)
        return Answered(m.Plugged(station_unit(self._kernel, station)))

    def _unplug(self, caller: Caller, body: m.Unplug, _fds: Sequence[int]) -> Answered:
        self._check_root(caller, "unplugging")
        for station in self._leases.stations:
            if station.port != names.HOST_SLOT and names.station_unit(station.port) == body.unit:
                self._leases.unplug(station)
                return Answered(m.Done())
        expected = "a station of `nomx device list`"
        raise InvalidRequest(field="unit", value=repr(body.unit), expected=expected)

    def _doctor(self, _caller: Caller, _body: m.Doctor, _fds: Sequence[int]) -> Answered:
        return Answered(m.Verdicts(self._kernel.capacity().verdicts))

    def _check_holder(self, caller: Caller, entry: Entry, operation: str) -> None:
        join = next(action for action in entry.actions if isinstance(action, JoinGroup))
        if caller.pid != join.pid:
            missing = f"{entry.record.lease} is held by process {join.pid}, and you are process {caller.pid}"
            raise NotPermitted(operation=operation, missing=missing, remedy="call from the holder")

    def _check_root(self, caller: Caller, operation: str) -> None:
        if caller.uid != 0:
            raise NotPermitted(operation=operation, missing=f"root; you are uid {caller.uid}", remedy="use sudo")


def _page(every: Iterable[str], after: str) -> tuple[list[str], bool]:
    """Return the first names numbered above *after* (the empty text: from the start), and whether there are more.

    By number, not by place, since leases come and go between two pages.
    Raises: InvalidRequest: *after* is no such name.
    """
    if after and _NAME.fullmatch(after) is None:
        raise InvalidRequest(field="after", value=repr(after), expected="the last name of the page before")
    start = _ordinal(after) if after else -1
    rest = sorted((name for name in every if _ordinal(name) > start), key=_ordinal)
    return rest[:PAGE], len(rest) > PAGE


def _ordinal(name: str) -> int:
    """Return the number in a lease's name, or the slot in a unit's (the host's port has none written: 0)."""
    match = _NAME.fullmatch(name)
    return int(match[1] or 0) if match else 0


def _device(port: MakePort, umem: UmemGeometry, bound: Bound) -> DeviceGrant:
    return DeviceGrant(
        unit=names.soft_unit(port.port),
        kind="soft",
        ifname=port.ifname,
        mac=port.mac,
        ip4=port.ip4,
        prefix_len=port.prefix_len,
        ip6=port.ip6,
        mtu_bytes=port.mtu_bytes,
        queues=port.queues,
        umem=umem,
        mode=bound.mode,
        tx_budget=bound.tx_budget,
    )
