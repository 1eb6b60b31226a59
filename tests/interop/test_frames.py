"""Frames without handlers on a real soft VF: batches over the UMEM, and one frame at a time, as an application does."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomx.alloc import names
from tests.interop.application import Host, start
from tests.kernel.conftest import Wired

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
        print("sent", device.statistics().tx_packets, flush=True)
"""

ANSWERS = """
    import nomx

    with nomx.open_device() as device:
        print("ready", flush=True)
        seen = 0
        while seen < 50:
            frame = nomx.recv_frame(device, 5)
            if frame[12:14] == b"\\x88\\xb5":
                seen += 1
                assert nomx.send_frame(device, frame[6:12] + frame[:6] + frame[12:])
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
    assert "sent 20000" in application.said()
    assert wired.switch.traffic(SLOT).tx_packets == 20_000


def test_frames_are_received_and_sent_one_by_one(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = start(wired, wired.port(SLOT), ANSWERS, tmp_path)
    application.wait_until_said("ready")
    raw = wired.raw(host.station)
    ours, theirs = (bytes.fromhex(mac.replace(":", "")) for mac in (host.station.mac, names.mac(wired.instance, SLOT)))
    for number in range(50):
        payload = b"%046d" % number
        raw.send(theirs + ours + bytes.fromhex(ETHERTYPE) + payload)
        answer = raw.receive(lambda seen: seen[:6] == ours and seen[12:14].hex() == ETHERTYPE, 2.0)
        assert answer == ours + theirs + bytes.fromhex(ETHERTYPE) + payload
    assert application.ended() == 0, application.said()
    assert "seen 50" in application.said()
