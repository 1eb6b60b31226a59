"""The switch namespace of an instance: its network namespace, the BPF programs of its ports, and their maps.

Made by the first daemon, adopted by the next: programs are attached by netlink, not by a link that
dies with its maker, so the ports go on switching while no daemon runs, and the maps are found again
through the programs that use them. Nothing is pinned.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nomx.api.lease import Traffic
from nomx.errors import MechanismError
from nomx.linux import abi, netns
from nomx.linux.bpf import Map, Object, Program
from nomx.linux.links import Links
from nomx.mech.mechanism import explained

_log = logging.getLogger("nomx.mech.switch")

_HINT = "see `nomx doctor`"
_LOOPBACK = "lo"
_BURST_NS = 10_000_000
"""How long a port that was idle may send before its rate counts: what it saved up, as time at that rate."""
_MIN_BURST_BYTES = 2 * 9018
"""But never less than this, or a slow port could not send its largest frame."""


@dataclass(frozen=True)
class _Loaded:
    """A program and its maps, whether loaded now or found attached."""

    program: Program
    maps: dict[str, Map]


class Switch:
    """One instance's switch. All calls come from one thread."""

    def __init__(self, instance: str) -> None:
        """Make the instance's switch, or adopt the one that is there.

        Raises: MechanismError: Linux refused. NotSupported: no libbpf.
        """
        self.instance = instance
        self._opened = contextlib.ExitStack()
        with explained(f"open the switch namespace {instance}", _HINT), contextlib.ExitStack() as undo:
            if not netns.exists(instance):
                netns.create(instance)
                undo.callback(netns.remove, instance)
            undo.callback(self._opened.close)
            with netns.inside(netns.path(instance)):
                _silence_ipv6()
            self.links = self._opened.enter_context(Links(netns.path(instance)))
            self._switch = self._adopted("switch", self._interfaces("s")) or self._loaded("switch")
            self._steer = self._adopted("steer", [_LOOPBACK]) or self._kept_attached(self._loaded("steer"))
            self._pass = self._loaded("pass")
            undo.pop_all()

    # -- the programs -------------------------------------------------------------------------------

    def _loaded(self, name: str) -> _Loaded:
        loaded = self._opened.enter_context(Object.load_named(name))
        return _Loaded(loaded.programs[f"nomx_{name}"], loaded.maps)

    def _adopted(self, name: str, ifnames: Iterable[str]) -> _Loaded | None:
        """Return the program that an earlier daemon attached to one of the interfaces."""
        for ifname in ifnames:
            if program_id := self.links.xdp_program_id(ifname):
                program = Program.by_id(program_id)
                maps = program.maps()
                for close in (program.close, *(each.close for each in maps.values())):
                    self._opened.callback(close)
                _log.info("adopted program=%s id=%d interface=%s", program.name, program_id, ifname)
                return self._checked(_Loaded(program, maps))
        return None

    def _kept_attached(self, steer: _Loaded) -> _Loaded:
        """Attach steer to an interface that carries nothing, so that some interface always has it.

        There the next daemon finds it, ports or none. And an application's port is made in 4 ms instead
        of 25: for the first interface of a program, and after the last, the kernel rewrites the code
        that dispatches XDP and waits until no CPU runs the old (bpf_dispatcher_change_prog, seen in
        6.18). For the switch program, the host's port is that interface.
        """
        index = self.links.require(_LOOPBACK)
        self.links.attach_xdp(index, steer.program.fd, generic=True)
        return steer

    def _checked(self, adopted: _Loaded) -> _Loaded:
        """Refuse maps that an incompatible version of nomx left in use."""
        for name, form in (("nomx_ports", abi.PORT), ("nomx_devices", abi.DEVICE)):
            if (found := adopted.maps.get(name)) is None:
                continue
            versions = {abi.version_of(value) for key in found.keys() if (value := found.lookup(key))}  # noqa: SIM118
            if found.value_bytes != form.size or versions - {abi.VERSION}:
                theirs = f"of version {max(versions, default=0)} and {found.value_bytes} bytes"
                raise MechanismError(
                    operation=f"adopt the switch namespace {self.instance}",
                    reason=f"{name} has elements {theirs}, ours are of version {abi.VERSION} and {form.size} bytes",
                    hint="end the leases of the other version first, or run this one as another --instance",
                )
        return adopted

    @property
    def switch_fd(self) -> int:
        return self._switch.program.fd

    @property
    def steer_fd(self) -> int:
        return self._steer.program.fd

    @property
    def pass_fd(self) -> int:
        return self._pass.program.fd

    # -- the ports ----------------------------------------------------------------------------------

    def admit(
        self, ifindex: int, slot: int, mac: str, ip4: str, ip6: str, *, guarded: bool, rate_bps: int | None
    ) -> None:
        """Let the port whose near end is *ifindex* send and receive; its counters start at 0."""
        burst_ns = max(_BURST_NS, _MIN_BURST_BYTES * 8 * 1_000_000_000 // rate_bps) if rate_bps else 0
        port = abi.port(slot, mac, ip4, ip6, guarded=guarded, rate_bps=rate_bps or 0, burst_ns=burst_ns)
        key = _u32(ifindex)
        for counters in (self._switch.maps["nomx_entered"], self._steer.maps["nomx_steered"]):
            counters.update(_u32(slot), bytes(counters.value_bytes))
        self._switch.maps["nomx_ports"].update(key, port)
        with self.links.inside():  # a DEVMAP finds the device in the writer's namespace
            self._switch.maps["nomx_devs"].update(key, key)
        self._switch.maps["nomx_fdb"].update(_mac_key(mac), key)

    def expel(self, ifindex: int | None, mac: str) -> None:
        """Undo `admit`; *ifindex* None where the near end has gone already."""
        self._switch.maps["nomx_fdb"].delete(_mac_key(mac))
        if ifindex is not None:
            for name in ("nomx_devs", "nomx_ports"):
                self._switch.maps[name].delete(_u32(ifindex))

    def steer(self, ifindex: int, slot: int, mac: str) -> None:
        """Steer the frames that come in on *ifindex* to the sockets of *slot*."""
        self._steer.maps["nomx_devices"].update(_u32(ifindex), abi.device(slot, mac))

    def unsteer(self, ifindex: int | None, slot: int) -> None:
        """Undo `steer` and every `connect` of the slot."""
        if ifindex is not None:
            self._steer.maps["nomx_devices"].delete(_u32(ifindex))
        for queue in range(abi.MAX_QUEUES):
            self._steer.maps["nomx_xsks"].delete(_xsk_key(slot, queue))

    def connect(self, slot: int, queue: int, xsk_fd: int) -> None:
        """Give the frames of one queue to a bound XSK."""
        self._steer.maps["nomx_xsks"].update(_xsk_key(slot, queue), _u32(xsk_fd))

    def traffic(self, slot: int) -> Traffic:
        """Return what a port's application received (frames handed to its XSKs) and sent (let into the switch)."""
        entered = abi.Counters.total(self._switch.maps["nomx_entered"].lookup_each_cpu(_u32(slot)))
        steered = abi.Counters.total(self._steer.maps["nomx_steered"].lookup_each_cpu(_u32(slot)))
        drops = entered.dropped()
        for why, count in steered.dropped().items():
            drops[why] = drops.get(why, 0) + count
        return Traffic(
            rx_packets=steered.packets,
            tx_packets=entered.packets,
            rx_bytes=steered.octets,
            tx_bytes=entered.octets,
            counted_at="xsk",
            drops=drops,
        )

    def interfaces(self) -> list[str]:
        """Return the names of the ports' interfaces in the switch namespace."""
        return [*self._interfaces("s"), *self._interfaces("a")]

    def _interfaces(self, prefix: str) -> Iterator[str]:
        return (name for name in self.links.names() if name.startswith(prefix) and name[len(prefix) :].isdecimal())

    # -- the end ------------------------------------------------------------------------------------

    def close(self, *, remove: bool) -> None:
        """Let go; with *remove*, delete the ports that are left and the namespace."""
        with explained(f"close the switch namespace {self.instance}", _HINT):
            if remove:
                for ifname in self._interfaces("s"):
                    self.links.delete(ifname)
            self._opened.close()
            if remove:
                netns.remove(self.instance)


def _silence_ipv6() -> None:
    """Keep the namespace's own stack from soliciting on every port; called inside of it."""
    for scope in ("all", "default"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6 is silent already
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _mac_key(mac: str) -> bytes:
    return abi.mac_bytes(mac) + b"\0\0"


def _xsk_key(slot: int, queue: int) -> bytes:
    return _u32(slot * abi.MAX_QUEUES + queue)
