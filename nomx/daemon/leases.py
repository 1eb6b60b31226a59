"""The life of leases and stations: granted, observed, ended; recovered from the journal by a daemon that comes after.

Every change goes journal → kernel → journal, so that a daemon killed at any point leaves an entry
that tells the next one what to undo. All calls come from one thread, one at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from nomx.alloc.actions import Action, CountCrossings, JoinGroup, MakeGroup, PlugPort, SetCpus
from nomx.alloc.inventory import Holding, Inventory
from nomx.alloc.plan import Plan
from nomx.alloc.planner import Request, plan, plan_host_port, plan_station, settle_pool
from nomx.api.lease import DeviceGrant, LeaseRecord, LeaseStatus
from nomx.daemon.events import Events
from nomx.daemon.executor import execute, undo
from nomx.daemon.journal import Entry, Journal
from nomx.daemon.kernel import Kernel
from nomx.daemon.observe import ended_status, lease_status
from nomx.daemon.settings import Settings
from nomx.errors import InvalidRequest, MechanismError, NomxError, NotSupported

_log = logging.getLogger("nomx.daemon.leases")


class Leases:
    """Every lease and station of one instance; *now_ns* reads CLOCK_MONOTONIC."""

    def __init__(
        self,
        settings: Settings,
        kernel: Kernel,
        journal: Journal,
        events: Events,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings
        self._kernel = kernel
        self._journal = journal
        self._events = events
        self._now_ns = now_ns
        self._live: dict[str, Entry] = {}
        self._stations: dict[int, PlugPort] = {}
        self._uncounted = kernel.capacity().uncounted

    # -- what there is ---------------------------------------------------------------------------

    @property
    def live(self) -> tuple[Entry, ...]:
        """Leases that still have something in the kernel, in order of grant."""
        return tuple(self._live.values())

    @property
    def stations(self) -> tuple[PlugPort, ...]:
        """Plugged-in namespaces, the host's port first."""
        return tuple(self._stations.values())

    def find(self, lease: str) -> Entry:
        """Return a live lease.

        Raises: InvalidRequest: there is none of that name.
        """
        try:
            return self._live[lease]
        except KeyError:
            expected = "a live lease (see `nomx lease list`)"
            raise InvalidRequest(field="lease", value=repr(lease), expected=expected) from None

    def inventory(self) -> Inventory:
        """Take the planner's snapshot."""
        return Inventory(
            instance=self._settings.instance,
            prefix=self._settings.prefix,
            mtu_bytes=self._settings.mtu_bytes,
            capacity=self._kernel.capacity(),
            holdings=tuple(_holding(entry) for entry in self._live.values()),
            stations=self.stations,
            next_lease=self._journal.next_lease(),
        )

    def status(self, lease: str) -> LeaseStatus:
        """Observe a live lease, or recall one that has ended.

        Raises: InvalidRequest: neither.
        """
        if lease in self._live:
            return lease_status(self._kernel, self._live[lease], self._uncounted, self._now_ns())
        ended = self._journal.ended(lease)
        if ended is None:
            expected = "a live lease, or one of the last 256 that ended"
            raise InvalidRequest(field="lease", value=repr(lease), expected=expected)
        return ended

    # -- grant and end ---------------------------------------------------------------------------

    def plan(self, request: Request) -> Plan:
        """Plan a lease and change nothing.

        Raises: InvalidRequest, NotSupported, NotGranted.
        """
        return plan(self.inventory(), request, self._now_ns())

    def grant(self, request: Request) -> tuple[Plan, Entry]:
        """Plan a lease and carry the plan out; where a step fails, nothing of it remains.

        Raises: InvalidRequest, NotSupported, NotGranted, MechanismError.
        """
        planned = self.plan(request)
        entry = Entry(planned.record, planned.owned)
        self._put(entry)
        try:
            execute(self._kernel, planned.actions)
            self._note_cpus(planned.actions)
            entry = _with_state(entry, "granted")
            self._put(entry)
        except NomxError as error:
            _log.warning("grant failed lease=%s: %s", entry.record.lease, error)
            # What cannot be undone now stays, as an ending lease, to be tried again.
            self._live[entry.record.lease] = _with_state(entry, "ending")
            self._finish(entry, planned.actions)
            raise
        record = entry.record
        _log.info("granted lease=%s path=%s uid=%d pid=%d", record.lease, record.path, record.uid, record.holder_pid)
        self._events.lease_began(record)
        return planned, entry

    def attached(self, entry: Entry, device: DeviceGrant) -> None:
        """Note what was bound for a lease."""
        self._note(replace(entry, device=device))

    def end(self, lease: str, reason: str, *, kill: bool) -> None:
        """End a live lease: observe it a last time, then undo it; its processes are killed first when *kill*.

        A lease whose end is under way already is left to that.
        """
        entry = self._live.get(lease)
        if entry is None or entry.record.state == "ending":
            return
        entry = replace(_with_state(entry, "ending"), last=ended_status(self.status(lease), reason))
        self._note(entry)
        if kill:
            self._kill(entry)
        self._finish(entry, entry.actions)

    def tend(self) -> None:
        """Try again what could not be undone when it ended, and forget stations that are gone; called now and then."""
        for entry in self.live:
            if entry.record.state == "ending":
                self._finish(entry, entry.actions)
        self._drop_dead_stations()

    def _finish(self, entry: Entry, actions: tuple[Action, ...]) -> None:
        """Undo *actions*, and forget the lease once that is done."""
        if undo(self._kernel, actions):
            return
        try:
            if entry.last is None:
                self._journal.forget(entry)
            else:
                self._journal.end(entry, entry.last)
        except NomxError as error:
            _log.error("end not journalled, will be tried again lease=%s: %s", entry.record.lease, error)
            return
        del self._live[entry.record.lease]
        reason = entry.last.end_reason if entry.last else "never granted"
        _log.info("ended lease=%s reason=%r", entry.record.lease, reason)
        self._events.lease_ended(entry.record)
        self._settle()

    def _kill(self, entry: Entry) -> None:
        try:
            self._kernel.kill(_holding(entry).group)
        except NomxError as error:
            _log.error("processes not killed lease=%s: %s", entry.record.lease, error)

    def _settle(self) -> None:
        """Give the shared pool what came free; what fails is tried again when the next lease ends."""
        try:
            for action in settle_pool(self.inventory()):
                execute(self._kernel, [action])
                self._note_cpus([action])
        except NomxError as error:
            _log.error("pool not settled: %s", error)

    def _note_cpus(self, actions: Sequence[Action]) -> None:
        """Write down on which CPUs the groups of other leases are now."""
        moved = {action.group: action.cpus for action in actions if isinstance(action, SetCpus)}
        for entry in self.live:
            group = _holding(entry).group
            if group.group in moved:
                self._note(_with_group(entry, replace(group, cpus=moved[group.group])))

    def _put(self, entry: Entry) -> None:
        """Write an entry down before the kernel is touched for it.

        Raises: MechanismError: the journal takes nothing; nothing was changed.
        """
        self._journal.write(entry)
        self._live[entry.record.lease] = entry

    def _note(self, entry: Entry) -> None:
        """Write down what is so already; a journal that fails now is behind, and recovery makes up for it."""
        self._live[entry.record.lease] = entry
        try:
            self._journal.write(entry)
        except NomxError as error:
            _log.error("journal is behind lease=%s: %s", entry.record.lease, error)

    # -- stations --------------------------------------------------------------------------------

    def plug(self, netns: str, ifname: str, address: str | None) -> PlugPort:
        """Plug the namespace at *netns* into the switch.

        Raises: InvalidRequest, NotSupported, NotGranted, MechanismError.
        """
        self._drop_dead_stations()
        return self._plug(plan_station(self.inventory(), netns, ifname, address))

    def plug_host(self, netns: str) -> None:
        """Give the host its port of the switch, if it has none; where that is refused, there are no soft VFs."""
        try:
            planned = plan_host_port(self.inventory(), netns)
            if planned.port not in self._stations:
                self._plug(planned)
        except (MechanismError, NotSupported) as error:
            self._kernel.withdraw_soft(error)

    def _plug(self, station: PlugPort) -> PlugPort:
        self._journal.write_station(station)
        self._stations[station.port] = station
        try:
            execute(self._kernel, [station])
        except NomxError:
            self.unplug(station)
            raise
        _log.info("plugged slot=%d ifname=%s ip4=%s", station.port, station.ifname, station.ip4)
        return station

    def unplug(self, station: PlugPort) -> None:
        """Undo a plug.

        Raises: MechanismError: something of it stays, and stays journalled.
        """
        for error in undo(self._kernel, [station]):
            raise error
        self._journal.forget_station(station)
        self._stations.pop(station.port, None)
        _log.info("unplugged slot=%d ifname=%s", station.port, station.ifname)

    def _drop_dead_stations(self) -> None:
        """Forget stations whose namespace was deleted, which took their interfaces along."""
        for station in self.stations:
            if not self._kernel.exists(station):
                self.unplug(station)

    # -- recovery --------------------------------------------------------------------------------

    def recover(self) -> None:
        """Make kernel and journal agree again after another daemon's end, however that came.

        A granted lease whose holder and kernel objects live is adopted; every other one is undone,
        and so is every kernel object of this instance that no entry accounts for.
        """
        self._stations = {station.port: station for station in self._journal.stations()}
        for entry in self._journal.live():
            self._live[entry.record.lease] = entry
        self._sweep()
        self._drop_dead_stations()
        for entry in self.live:
            self._recover(entry)
        self._settle()

    def _recover(self, entry: Entry) -> None:
        record = entry.record
        if record.state != "granted":
            # Nobody was told of one that was `granting`: its holder goes back to where it came from.
            self._note(_with_state(entry, "ending"))
            self._finish(entry, entry.actions)
            return
        try:
            reason = self._why_over(record, entry)
            if not reason:
                self._adopt(entry)
        except NomxError as error:
            reason = f"it could not be adopted: {error}"
        if reason:
            self.end(record.lease, reason, kill=True)

    def _why_over(self, record: LeaseRecord, entry: Entry) -> str:
        if self._kernel.start_time(record.holder_pid) != record.holder_start:
            return "its application ended while no daemon ran"
        for action in entry.actions:
            if not isinstance(action, JoinGroup | CountCrossings) and not self._kernel.exists(action):
                return f"its {type(action).__name__} was undone by somebody else while no daemon ran"
        return ""

    def _adopt(self, entry: Entry) -> None:
        for action in entry.actions:
            # Counting is not worth a lease: what was counted is lost with its counter, the rest goes on.
            if isinstance(action, CountCrossings) and not self._kernel.exists(action):
                execute(self._kernel, [action])
        group = _holding(entry).group
        self._note(_with_group(entry, replace(group, cpus=self._kernel.group(group).cpus)))
        _log.info("adopted lease=%s pid=%d", entry.record.lease, entry.record.holder_pid)
        self._events.lease_began(entry.record)

    def _sweep(self) -> None:
        keep: list[Action] = [action for entry in self.live for action in entry.actions]
        for name in self._kernel.sweep([*keep, *self._stations.values()]):
            _log.warning("removed an orphan: %s", name)

    def close(self) -> bool:
        """Let go, leaving live leases to the next daemon; where there are none, leave nothing.

        Returns: whether nothing is left.
        """
        empty = not self._live
        if empty:
            for station in reversed(self.stations):
                try:
                    self.unplug(station)
                except NomxError as error:
                    _log.error("station not unplugged slot=%d: %s", station.port, error)
            empty = not self._stations
        self._kernel.close(remove=empty)
        self._journal.close(remove=empty)
        return empty


def _holding(entry: Entry) -> Holding:
    record = entry.record
    return Holding.of(record.lease, record.number, record.holder_pid, entry.actions)


def _with_state(entry: Entry, state: str) -> Entry:
    return replace(entry, record=msgspec.structs.replace(entry.record, state=state))


def _with_group(entry: Entry, group: MakeGroup) -> Entry:
    return replace(entry, actions=tuple(group if isinstance(each, MakeGroup) else each for each in entry.actions))
