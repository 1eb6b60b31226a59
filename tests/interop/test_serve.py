"""Compiled handlers on a real soft VF: what a Linux host sees of them, and what becomes of what goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from nomx.alloc import names
from tests.interop.application import Application, Host, start
from tests.kernel.conftest import RawPort, Wired, ip4

pytestmark = [pytest.mark.root, pytest.mark.netns]

SLOT, HOST = 1, 2
THERE = ip4(SLOT)

HANDLERS = """
    import json
    import logging
    import sys

    import numpy as np
    import nomx

    logging.basicConfig(level=logging.INFO)

    @nomx.udp(7)
    def echo(message, length):
        return length

    @nomx.udp(8, state=np.zeros(2, np.int64))
    def count(message, length, state):
        state[0] += 1
        state[1] += length
        for byte in range(8):
            message[byte] = state[0] >> 8 * byte & 0xFF
            message[8 + byte] = state[1] >> 8 * byte & 0xFF
        return 16

    @nomx.udp(9)
    def fragile(message, length):
        if length > 4:
            raise ValueError("more than four bytes")
        return length

    @nomx.udp(10)
    def overrun(message, length):
        return 100_000

    @nomx.udp(11)
    def longest(message, length):
        message[:] = 0x2A
        return message.size

    @nomx.udp(12)
    def wanders(message, length):
        return message[message.size + length]

    options = json.loads(sys.argv[1])
    if options.pop("restless", False):
        import itertools
        import threading
        import time

        def turn():
            knobs = itertools.product(("spin", "adaptive", "interrupt"), (0, 30, 1000), (0, 30, 1000))
            for wait, rx, tx in itertools.cycle(knobs):
                nomx.tune(wait=wait, rx_delay_us=rx, tx_delay_us=tx)
                time.sleep(0.002)

        threading.Thread(target=turn, daemon=True).start()
    nomx.serve(**options)
"""


@pytest.fixture
def host(wired: Wired) -> Host:
    return Host(wired.station(HOST))


def serving(wired: Wired, folder: Path, queues: int = 1, **options: object) -> Application:
    port = wired.port(SLOT, queues=queues)
    application = start(wired, port, HANDLERS, folder, [json.dumps(options)])
    application.wait_until_said("serving lease=L1")
    return application


def test_a_host_talks_to_it(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path)
    for payload in (b"", b"x", b"hello", bytes(range(256)) * 5, b"m" * 1472):
        assert host.answered(THERE, 7, payload) == payload
    assert host.answered(THERE, 11, b"?") == b"\x2a" * 1472
    first = host.answered(THERE, 8, b"12345")
    assert first is not None
    assert int.from_bytes(first[8:], "little") >= 5
    ping = host.run("ping", "-c", "3", "-i", "0.05", "-W", "2", "-s", "1000", THERE)
    assert ping.returncode == 0, ping.stdout
    neighbours = host.run("ip", "neighbour", "show", THERE)
    assert application.stop() == 0, application.said()
    counted = application.counters()
    assert counted["icmp_replies"] >= 3
    assert counted["arp_replies"] >= 1
    assert "lladdr" in neighbours.stdout
    assert counted["tx_packets"] == counted["replies"] + counted["icmp_replies"] + counted["arp_replies"]
    assert not [name for name in counted if name in ("handler_errors", "drop_udp_checksum", "drop_ip_checksum")]


def test_a_host_talks_to_it_over_ipv6(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path)
    there = names.ip6(wired.instance, SLOT)
    assert host.answered(THERE, 7, b"ready") == b"ready"
    for payload in (b"", b"x", bytes(range(256)) * 5, b"m" * 1452):
        assert host.answered(there, 7, payload) == payload
    assert host.answered(there, 11, b"?") == b"\x2a" * 1452
    ping = host.run("ping", "-c", "3", "-i", "0.05", "-W", "2", "-s", "1000", there)
    assert ping.returncode == 0, ping.stdout
    neighbours = host.run("ip", "-6", "neighbour", "show", there)
    assert application.stop() == 0, application.said()
    assert names.mac(wired.instance, SLOT) in neighbours.stdout
    counted = application.counters()
    assert counted["nd_replies"] >= 1
    assert not [name for name in counted if name in ("handler_errors", "drop_udp_checksum", "drop_icmp_checksum")]


def test_knobs_that_turn_under_traffic_lose_and_alter_nothing(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path, restless=True)
    assert host.answered(THERE, 7, b"") == b""
    with host.udp() as client:
        client.connect((THERE, 7))
        for first in range(0, 2000, 40):  # forty at a time, so that there is something to hold
            sent = [b"%d" % number for number in range(first, first + 40)]
            for payload in sent:
                client.send(payload)
            assert [client.recv(100) for _ in sent] == sent
    assert application.stop() == 0, application.said()
    assert application.counters()["replies"] >= 2001


def test_a_device_polled_by_its_application_serves_alike(wired: Wired, host: Host, tmp_path: Path) -> None:
    port = wired.port(SLOT)
    application = start(wired, port, HANDLERS, tmp_path, [json.dumps({"wait": "busy-poll"})], busy_poll=True)
    application.wait_until_said("serving lease=L1")
    for payload in (b"", b"hello", b"m" * 1472):
        assert host.answered(THERE, 7, payload) == payload
    assert application.stop() == 0, application.said()
    counted = application.counters()
    assert counted.get("waits", 0) == 0
    assert counted["wakeups"] > counted["replies"]


def test_checksums_are_right_on_the_wire(wired: Wired, host: Host, tmp_path: Path) -> None:
    """Seen by scapy on a raw socket, not by a stack that may take a missing checksum for an offloaded one."""
    application = serving(wired, tmp_path)
    raw = wired.raw(host.station)
    for payload in (b"", b"odd", bytes(200), b"\xff" * 1471):
        answer = _exchange(wired, raw, host, UDP(sport=1234, dport=7) / payload)
        assert answer[UDP].payload.original == payload
        assert (answer[IP].chksum, answer[UDP].chksum) == _fresh_checksums(answer)
        assert answer[UDP].chksum != 0
    assert application.stop() == 0


def _exchange(wired: Wired, raw: RawPort, host: Host, packet: UDP | ICMP) -> Ether:
    """Send an IP payload from the host's address and return the answer to it."""
    station, port = host.station, names.mac(wired.instance, SLOT)
    request = Ether(src=station.mac, dst=port) / IP(src=station.ip4, dst=THERE) / packet
    for _ in range(5):
        raw.send(bytes(request))
        frame = raw.receive(lambda seen: seen[6:12] == bytes(request)[:6] and seen[23:24] == b"\x11", 1.0)
        if frame is not None:
            return Ether(frame)
    raise AssertionError("no answer")


def _fresh_checksums(answer: Ether) -> tuple[int, int]:
    again = answer.copy()
    del again[IP].chksum
    del again[UDP].chksum
    again = Ether(bytes(again))
    return again[IP].chksum, again[UDP].chksum


def test_bad_frames_are_counted_and_harm_nobody(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path)
    assert host.answered(THERE, 7, b"before") == b"before"
    raw = wired.raw(host.station)
    to = Ether(src=host.station.mac, dst=names.mac(wired.instance, SLOT))
    ip = IP(src=host.station.ip4, dst=THERE)
    bad = {
        "drop_udp_checksum": to / ip / UDP(sport=5, dport=7, chksum=0x1234) / b"wrong",
        "drop_ip_checksum": to / IP(src=host.station.ip4, dst=THERE, chksum=0x1234) / UDP(sport=5, dport=7),
        "drop_fragment": to / IP(src=host.station.ip4, dst=THERE, flags="MF") / UDP(sport=5, dport=7) / bytes(8),
        "drop_no_handler": to / ip / UDP(sport=5, dport=99),
        "drop_udp_length": to / ip / UDP(sport=5, dport=7, len=4),
        "reply_overruns": to / ip / UDP(sport=5, dport=10),
        "drop_protocol": to / IP(src=host.station.ip4, dst=THERE, proto=132) / bytes(20),
    }
    for frame in bad.values():
        for _ in range(3):
            raw.send(bytes(frame))
    assert host.answered(THERE, 7, b"after") == b"after"
    assert application.stop() == 0
    counted = application.counters()
    assert {name: counted.get(name, 0) for name in bad} == dict.fromkeys(bad, 3)


def test_a_handler_that_raises_is_told_once_and_served_on(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path)
    assert host.answered(THERE, 9, b"four") == b"four"
    for _ in range(3):
        assert host.answered(THERE, 9, b"seven!!", attempts=1) is None
    assert host.answered(THERE, 12, b"", attempts=1) is None
    assert host.answered(THERE, 9, b"four") == b"four"
    assert application.stop() == 0
    said = application.said()
    assert said.count("ValueError: more than four bytes") == 1, said
    assert "in fragile" in said
    assert application.counters()["handler_errors"] >= 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", ["adaptive", "spin", "interrupt"])
def test_every_wait_strategy_serves_and_ends(
    wired: Wired, host: Host, tmp_path: Path, wait: str, number: signal.Signals
) -> None:
    application = serving(wired, tmp_path, wait=wait)
    for turn in range(20):
        assert host.answered(THERE, 7, b"%d" % turn) == b"%d" % turn
    time.sleep(0.2)  # long enough to fall asleep
    assert host.answered(THERE, 7, b"awake") == b"awake"
    assert application.stop(number) == 0, application.said()
    assert ("waits" in application.counters()) == (wait != "spin")


def test_two_queues_have_a_loop_each(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path, queues=2)
    for turn in range(50):
        assert host.answered(THERE, 7, b"%d" % turn) == b"%d" % turn
    assert application.stop() == 0, application.said()


def test_a_device_that_goes_ends_serving_with_the_reason(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path)
    assert host.answered(THERE, 7, b"hello") == b"hello"
    _ip(wired, "link", "delete", f"a{SLOT}")
    assert application.ended() == 1
    assert "LeaseRevoked: lease L1 has ended: its device a1 was taken down or removed" in application.said()


def test_a_device_that_is_down_for_a_moment_is_waited_for(wired: Wired, host: Host, tmp_path: Path) -> None:
    application = serving(wired, tmp_path, wait="spin")
    assert host.answered(THERE, 7, b"hello") == b"hello"
    _ip(wired, "link", "set", f"a{SLOT}", "down")
    time.sleep(0.2)
    _ip(wired, "link", "set", f"a{SLOT}", "up")
    assert host.answered(THERE, 7, b"again", attempts=20) == b"again"
    assert application.stop() == 0, application.said()


def _ip(wired: Wired, *arguments: str) -> None:
    """Change a link of the switch's namespace behind everybody's back."""
    subprocess.run(["ip", "-n", wired.instance, *arguments], check=True, timeout=10)
