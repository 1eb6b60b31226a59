"""UDP work on a soft VF: `nomx run worker.py receive --wait spin`, or `... transmit MAC ADDRESS PORT BYTES`.

The counterpart of experiments/peers/udp_work.c; the echo is nomx's own (nomx.apps.echo).
"""

from __future__ import annotations

import argparse
from ipaddress import IPv4Address

import numpy as np

import nomx
from nomx.wire.ethernet import TYPE_IPV4, Ethernet, parse_mac
from nomx.wire.ipv4 import IPv4
from nomx.wire.udp import Udp

PORT = 7000
HEADERS_BYTES = 14 + 20 + 8
BURST = 256
_PROTOCOL_UDP = 17


def take_in(message, length):  # type: ignore[no-untyped-def] # noqa: ARG001 - a handler takes what it is given, untyped
    """Receive, and answer nothing."""
    return nomx.NO_REPLY


def datagram(source_mac: str, source: str, mac: str, address: str, port: int, frame_bytes: int) -> bytes:
    """Return a frame that the station counts as a right answer; *frame_bytes* without FCS."""
    payload = b"nomx" + bytes(frame_bytes - HEADERS_BYTES - 4)
    ip = IPv4(IPv4Address(source), IPv4Address(address), _PROTOCOL_UDP, 8 + len(payload))
    udp = Udp(PORT, port, payload)
    return Ethernet(parse_mac(mac), parse_mac(source_mac), TYPE_IPV4).emit() + ip.emit() + udp.emit(ip)


def transmit(mac: str, address: str, port: int, frame_bytes: int) -> None:
    """Send the same datagram until somebody stops it."""
    with nomx.open_device() as device:
        frame = np.frombuffer(datagram(device.mac, device.ip4, mac, address, port, frame_bytes), np.uint8)
        while True:
            index = device.take(BURST)
            device.packets[index, :frame_bytes] = frame
            batch = nomx.Batch(index, frame_bytes)
            while len(batch := batch[device.tx_burst(batch) :]):
                device.give(device.rx_burst().index)  # which collects what was sent, too: its ring is full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    works = parser.add_subparsers(dest="work", required=True)
    receiving = works.add_parser("receive")
    receiving.add_argument("--wait", default="adaptive")
    sending = works.add_parser("transmit")
    sending.add_argument("mac")
    sending.add_argument("address")
    sending.add_argument("port", type=int)
    sending.add_argument("frame_bytes", type=int)
    given = parser.parse_args()
    if given.work == "transmit":
        transmit(given.mac, given.address, given.port, given.frame_bytes)
    else:
        nomx.udp(PORT)(take_in)
        nomx.serve(wait=given.wait)


if __name__ == "__main__":
    main()
