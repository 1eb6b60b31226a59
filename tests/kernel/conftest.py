"""A switch of the test's own, with applications' ports and stations, on the real kernel."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomx.alloc import names
from nomx.alloc.actions import MakePort, PlugPort
from nomx.linux import memory, netns
from nomx.mech.binder import Binder
from nomx.mech.softvf import SoftVf
from nomx.mech.station import Station
from nomx.mech.switch import Switch
from tests.kernel.tracing import Workload, compiled
from tests.kernel.xsk_port import GEOMETRY

ETH_P_ALL = 3
PREFIX_LEN = 24


def ip4(slot: int) -> str:
    return f"10.79.0.{slot + 1}"


def port_of(instance: str, slot: int, *, queues: int = 1, bandwidth_bps: int | None = None) -> MakePort:
    """What makes an application's soft VF."""
    return MakePort(
        instance=instance,
        port=slot,
        switch_ifname=names.switch_ifname(slot),
        ifname=names.device_ifname(slot),
        mac=names.mac(instance, slot),
        ip4=ip4(slot),
        prefix_len=PREFIX_LEN,
        ip6=names.ip6(instance, slot),
        queues=queues,
        mtu_bytes=1500,
        bandwidth_bps=bandwidth_bps,
    )


class RawPort:
    """Sends and receives whole frames on one interface of one namespace."""

    def __init__(self, namespace: Path, ifname: str) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((ifname, ETH_P_ALL))

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, wanted: Callable[[bytes], bool], timeout_s: float = 2.0) -> bytes | None:
        """Return the first frame that is wanted, None when none came in time."""
        self._socket.settimeout(timeout_s)
        with contextlib.suppress(TimeoutError):
            while True:
                frame = self._socket.recv(1 << 16)
                if wanted(frame):
                    return frame
        return None

    def close(self) -> None:
        self._socket.close()


@dataclass
class Wired:
    """A switch and everything that plugs into it, undone at the end in reverse order."""

    instance: str
    switch: Switch
    cleanup: contextlib.ExitStack

    def __post_init__(self) -> None:
        self.soft_vf = SoftVf(self.switch)
        self.binder = Binder(self.switch)
        self._station = Station(self.switch)

    def port(self, slot: int, *, queues: int = 1, bandwidth_bps: int | None = None) -> MakePort:
        """Make an application's soft VF."""
        action = port_of(self.instance, slot, queues=queues, bandwidth_bps=bandwidth_bps)
        self.cleanup.callback(self.soft_vf.undo, action)
        self.soft_vf.apply(action)
        return action

    def station(self, slot: int) -> PlugPort:
        """Make a namespace and plug it in as a host."""
        namespace = f"{self.instance}h{slot}"
        netns.create(namespace)
        self.cleanup.callback(netns.remove, namespace)
        action = PlugPort(
            instance=self.instance,
            port=slot,
            switch_ifname=f"s{slot}",
            netns=str(netns.path(namespace)),
            ifname="eth0",
            mac=names.mac(self.instance, slot),
            ip4=ip4(slot),
            prefix_len=PREFIX_LEN,
            ip6=names.ip6(self.instance, slot),
            mtu_bytes=1500,
        )
        self.cleanup.callback(self._station.undo, action)
        self._station.apply(action)
        return action

    def raw(self, action: MakePort | PlugPort) -> RawPort:
        """Open a raw socket on an application's end of a port, or on a station's."""
        namespace = Path(action.netns) if isinstance(action, PlugPort) else netns.path(self.instance)
        port = RawPort(namespace, action.ifname)
        self.cleanup.callback(port.close)
        return port


@pytest.fixture
def wired(instance: str) -> Iterator[Wired]:
    """An empty switch of this test's own."""
    with contextlib.ExitStack() as cleanup:
        switch = Switch(instance)
        cleanup.callback(switch.close, remove=True)
        yield Wired(instance, switch, cleanup)


@pytest.fixture
def umem() -> Iterator[int]:
    """A memfd with all its pages, large enough for two queues."""
    length = 2 * GEOMETRY.slice_bytes
    fd = memory.memfd("test-umem", length)
    os.posix_fallocate(fd, 0, length)
    yield fd
    os.close(fd)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """trace_workload.c, compiled."""
    return compiled(tmp_path_factory.mktemp("workload"))


@pytest.fixture
def workload(program: Path) -> Iterator[Workload]:
    """The workload, running and waiting for work."""
    running = Workload(program)
    running.do("s1")  # so that it is past its start
    yield running
    running.end()
