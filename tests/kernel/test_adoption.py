"""The daemon is killed: traffic goes on, the next one takes over what it finds, and nothing is lost or left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from nomx.alloc import names
from nomx.errors import MechanismError
from nomx.linux import abi, netns
from nomx.linux.bpf import Map, Program
from nomx.mech.switch import Switch
from tests.kernel.conftest import Wired, ip4, port_of
from tests.kernel.xsk_port import XskPort

pytestmark = [pytest.mark.root, pytest.mark.netns]

ROOT = Path(__file__).resolve().parents[2]

DAEMON = """
import contextlib, signal, socket, sys
from nomx.mech.switch import Switch
from tests.kernel.conftest import Wired
from tests.kernel.xsk_port import GEOMETRY
instance, control, umem = sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])
wired = Wired(instance, Switch(instance), contextlib.ExitStack())
binding = wired.binder.bind(wired.port(1), umem, GEOMETRY)
socket.send_fds(control, [b"bound"], binding.xsk_fds)
signal.pause()
"""


@pytest.fixture
def orphan(instance: str, umem: int) -> Iterator[XskPort]:
    """The application of slot 1, whose daemon was killed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        command = [sys.executable, "-c", DAEMON, instance, str(theirs.fileno()), str(umem)]
        with theirs:
            daemon = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno(), umem])
        said, fds, _, _ = socket.recv_fds(ours, 16, 1)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
    assert said == b"bound"
    port = XskPort(umem, fds[0])
    yield port
    port.close()


@contextlib.contextmanager
def next_daemon(instance: str) -> Iterator[Wired]:
    """What the next daemon holds: the switch that it found."""
    with contextlib.ExitStack() as cleanup:
        switch = Switch(instance)
        cleanup.callback(switch.close, remove=True)
        yield Wired(instance, switch, cleanup)


def frame(instance: str, source: int, destination: int) -> bytes:
    ether = Ether(src=names.mac(instance, source), dst=names.mac(instance, destination))
    return bytes(ether / IP(src=ip4(source), dst=ip4(destination)) / UDP(sport=1, dport=2))


def test_the_next_daemon_finds_ports_counters_and_sockets(instance: str, orphan: XskPort) -> None:
    orphan.send(frame(instance, 1, 2))
    with next_daemon(instance) as wired:
        assert wired.switch.traffic(1).tx_packets == 1, "counted while there was no daemon"
        peer = wired.raw(wired.station(2))
        there, back = frame(instance, 2, 1), frame(instance, 1, 2)
        peer.send(there)
        assert orphan.receive(lambda got: got == there)
        orphan.send(back)
        assert peer.receive(lambda got: got == back)
        assert wired.switch.traffic(1).tx_packets == 2
        wired.soft_vf.undo(port_of(instance, 1))
        assert not wired.soft_vf.exists(port_of(instance, 1))
        assert wired.switch.interfaces() == ["s2"]


def test_the_next_daemon_may_end_it_all(instance: str, orphan: XskPort) -> None:
    Switch(instance).close(remove=True)
    assert not netns.exists(instance)


def test_another_versions_ports_are_not_touched(instance: str, orphan: XskPort) -> None:
    with next_daemon(instance) as wired, contextlib.closing(adopted_map(wired.switch, "nomx_ports")) as ports:
        (key,) = ports.keys()
        port = ports.lookup(key)
        assert port is not None
        ports.update(key, (abi.VERSION + 1).to_bytes(4, "little") + port[4:])
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(MechanismError, match=f"of version {abi.VERSION + 1}"):
            Switch(instance)
        assert set(os.listdir("/proc/self/fd")) == before


def adopted_map(switch: Switch, name: str) -> Map:
    """Find one of the switch's maps as another daemon would: through a port's program."""
    program_id = switch.links.xdp_program_id("s1")
    assert program_id is not None
    program = Program.by_id(program_id)
    maps = program.maps()
    program.close()
    for other in maps.values():
        if other.name != name:
            other.close()
    return maps[name]
