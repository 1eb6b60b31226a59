"""The switch namespace of an instance: its network namespace, the BPF programs of its ports, and their maps.

Made by the first daemon, adopted by the next: programs are attached by netlink, not by a link that
dies with its maker, so the ports go on switching while no daemon runs, and the maps are found again
through the programs that use them. Nothing is pinned.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
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
        self._objects: list[Object] = []
        with explained(f"open the switch namespace {instance}", _HINT):
            if not netns.exists(instance):
                netns.create(instance)
                with netns.inside(netns.path(instance)):
                    _silence_ipv6()
            self.links = Links(netns.path(instance))
            self._switch = self._adopt_or_load("s", "switch")
            self._steer = self._adopt_or_load("a", "steer")
            self._pass = self._load("pass")

    # -- the programs -------------------------------------------------------------------------------

    def _adopt_or_load(self, prefix: str, name: str) -> _Loaded:
        for ifname in self._interfaces(prefix):
            if program_id := self.links.xdp_program_id(ifname):
                program = Program.by_id(program_id)
                if program.name == f"nomx_{name}":
                    _log.info("adopted program=%s id=%d interface=%s", program.name, program_id, ifname)
                    return self._checked(_Loaded(program, program.maps()))
        return self._load(name)

    def _load(self, name: str) -> _Loaded:
        loaded = Object.load_named(name)
        self._objects.append(loaded)
        return _Loaded(loaded.programs[f"nomx_{name}"], loaded.maps)

    def _checked(self, adopted: _Loaded) -> _Loaded:
        """Refuse maps that an incompatible version of nomx left in use."""
        sizes = {"nomx_ports": abi.PORT.size, "nomx_devices": abi.DEVICE.size}
        for name, size in sizes.items():
            if name in adopted.maps and adopted.maps[name].value_bytes != size:
                raise MechanismError(
                    operation=f"adopt the switch namespace {self.instance}",
                    reason=f"{name} has elements of {adopted.maps[name].value_bytes} bytes, this version's have {size}",
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
            self.links.close()
            for each in self._objects:
                each.close()
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
