"""Frames without handlers on a real soft VF: batches over the UMEM, and one frame at a time, as an application does."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from nomx.alloc import names
from tests.interop.application import Host, start
from tests.kernel.conftest import Wired, ip4

pytestmark = [pytest.mark.root, pytest.mark.netns]

SLOT, HOST = 1, 2
ETHERTYPE = "88b5"  # for experiments (IEEE 802)

SENDS = """
    import sys
    import numpy as np
    import nomx

    frame = np.frombuffer(bytes.fromhex(sys.argv[1]), np.uint8)
    with nomx.open_device() as device:
        left = 20_000
        while left:
            index = device.take(min(left, 300))
            device.packets[index, : frame.size] = frame
            left -= len(index)
            batch = nomx.Batch(index, np.full(len(index), frame.size))
            while len(batch):
                batch = batch[device.tx_burst(batch) :]
        while device.flush():
            pass
        print("sent", device.statistics(), flush=True)
"""

ANSWERS = """
    import nomx

    with nomx.open_device() as device:
        print("ready", flush=True)
        seen = 0
        while seen < 50:
            frame = nomx.recv_frame(device, 5)
            if frame[23:24] == b"\\x11":  # UDP: sender and receiver change places, which changes no checksum
                seen += 1
                ends = frame[30:34] + frame[26:30] + frame[36:38] + frame[34:36]
                assert nomx.send_frame(device, frame[6:12] + frame[:6] + frame[12:26] + ends + frame[38:])
        while device.flush():
            pass
        print("seen", seen, flush=True)
"""


@pytest.fixture
def host(wired: Wired) -> Host:
    return Host(wired.station(HOST))


def test_more_is_sent_than_any_ring_holds(wired: Wired, host: Host, tmp_path: Path) -> None:
    port = wired.port(SLOT)
    header = (host.station.mac + names.mac(wired.instance, SLOT)).replace(":", "") + ETHERTYPE
    application = start(wired, port, SENDS, tmp_path, [header + 46 * "00"])
    assert application.ended() == 0, application.said()
    assert "tx_packets=20000" in application.said()
    assert wired.switch.traffic(SLOT).drops["ethertype"] == 20_000  # the switch saw them all, and has no use for them


def test_frames_are_received_and_sent_one_by_one(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = start(wired, wired.port(SLOT), ANSWERS, tmp_path)
    application.wait_until_said("ready")
    raw = wired.raw(host.station)
    station = host.station
    to = Ether(src=station.mac, dst=names.mac(wired.instance, SLOT)) / IP(src=station.ip4, dst=ip4(SLOT))
    for number in range(50):
        request = to / UDP(sport=1000 + number, dport=9) / (b"%d" % number)
        raw.send(bytes(request))
        data = raw.receive(lambda seen: seen[6:12] == bytes(to)[:6] and seen[23:24] == b"\x11", 2.0)
        assert data is not None
        answer = Ether(data)
        assert (answer.src, answer[IP].src, answer[IP].dst) == (request.dst, ip4(SLOT), station.ip4)
        assert (answer[UDP].sport, answer[UDP].dport) == (9, 1000 + number)
        assert answer[UDP].payload.original.rstrip(b"\0") == b"%d" % number
    assert application.ended() == 0, application.said()
    assert "seen 50" in application.said()
