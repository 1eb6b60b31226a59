"""A measuring station: a network namespace of its own, plugged into the switch as a host is.

    station (this namespace)  --veth--  switch  --veth--  the application, or the host's own port

Whatever path the other side is on, the station reaches it over the same two links.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from nomx.client.connection import Client
from nomx.errors import NomxError
from nomx.linux import netns
from nomx.linux.bpf import Object, Program, object_path
from nomx.linux.links import Links
from nomx.wire.ethernet import TYPE_IPV4, Ethernet, parse_mac
from nomx.wire.ipv4 import IPv4
from nomx.wire.udp import Udp

IFNAME = "station0"
MARKER = b"nomx"
"""The first four bytes of each request, and of a right answer."""
HEADERS_BYTES = 14 + 20 + 8

_RESOLVE_DEADLINE_S = 3.0
_OWN_PORT = 40_000


class Unreachable(NomxError):
    """The *address* does not answer ARP."""

    template = "{address} does not answer ARP on the switch; is the application running?"


@dataclass(frozen=True)
class Target:
    """Where requests go: an address on the switch and a UDP port."""

    address: str
    port: int


@dataclass(frozen=True)
class Course:
    """A target resolved: everything that a request frame needs."""

    target: Target
    target_mac: int
    own_mac: int
    own_address: str

    def request(self, frame_bytes: int) -> bytes:
        """Return a request as a whole frame of *frame_bytes*, FCS not included."""
        payload = MARKER + bytes(frame_bytes - HEADERS_BYTES - len(MARKER))
        ip = IPv4(
            source=IPv4Address(self.own_address),
            destination=IPv4Address(self.target.address),
            protocol=17,
            payload_bytes=8 + len(payload),
        )
        udp = Udp(source_port=_OWN_PORT, destination_port=self.target.port, payload=payload)
        return Ethernet(self.target_mac, self.own_mac, TYPE_IPV4).emit() + ip.emit() + udp.emit(ip)


class Station:
    """The station, made and plugged in; a context manager that leaves nothing behind."""

    def __init__(self, socket: Path, name: str) -> None:
        """Make the namespace *name* and plug it into the switch of the daemon that listens on *socket*.

        Raises: NomxError: the daemon refused. OSError: the namespace cannot be made.
        """
        self._socket = socket
        self._cleanup = contextlib.ExitStack()
        self.namespace = netns.path(name)
        try:
            netns.create(name)
            self._cleanup.callback(netns.remove, name)
            with open(self.namespace, "rb") as handle, Client.connect(socket) as client:
                self.unit = client.plug(handle.fileno(), IFNAME)
            self._cleanup.callback(self._unplug)
            self.links = self._cleanup.enter_context(Links(self.namespace))
        except BaseException:
            self._cleanup.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def _unplug(self) -> None:
        with Client.connect(self._socket) as client:
            client.unplug(self.unit.unit)

    @property
    def ifindex(self) -> int:
        index = self.links.index(IFNAME)
        assert index is not None  # plugged in, and not yet unplugged
        return index

    def resolve(self, target: Target) -> Course:
        """Find the target's MAC, by the kernel's own ARP.

        Raises: Unreachable: nobody answers within three seconds.
        """
        deadline = time.monotonic() + _RESOLVE_DEADLINE_S
        with self.links.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    knock.sendto(MARKER, (target.address, target.port))
                if mac := _neighbour(target.address):
                    return Course(target, parse_mac(mac), parse_mac(self.unit.mac), self.unit.ip4)
                time.sleep(0.01)
        raise Unreachable(address=target.address)

    @contextlib.contextmanager
    def program(self, name: str, course: Course, frame_bytes: int) -> Iterator[Object]:
        """Load `generate.bpf.c` for *course* and have its program *name* on the station's interface for a while."""
        with Object(object_path("generate")) as loaded:
            target = struct.pack(
                "=4s4s2s2s2s2xI4s",
                IPv4Address(course.own_address).packed,
                IPv4Address(course.target.address).packed,
                _OWN_PORT.to_bytes(2, "big"),
                course.target.port.to_bytes(2, "big"),
                (frame_bytes - 34).to_bytes(2, "big"),
                self.ifindex,
                MARKER,
            )
            loaded.constants()[: len(target)] = list(target)
            loaded.load()
            before = self.links.xdp_program_id(IFNAME)
            assert before is not None  # a station polls (nomx_pass)
            self.links.attach_xdp(self.ifindex, loaded.programs[name].fd)
            try:
                yield loaded
            finally:
                self._put_back(before)

    def _put_back(self, program_id: int) -> None:
        program = Program.by_id(program_id)
        try:
            self.links.attach_xdp(self.ifindex, program.fd)
        finally:
            os.close(program.fd)


def _neighbour(address: str) -> str | None:
    """Return the MAC that the calling thread's network namespace knows *address* by."""
    with open("/proc/thread-self/net/arp") as table:
        for line in table.readlines()[1:]:
            ip, _, flags, mac, *_ = line.split()
            if ip == address and int(flags, 16) & 2:  # ATF_COM: complete
                return mac
    return None
