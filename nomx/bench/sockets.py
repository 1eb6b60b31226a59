"""The client that anybody may run: ordinary sockets over loopback, for a machine without root.

Its own system calls bound what it can offer, so its figures are for a first look, not for a comparison
with what `generator` and `roundtrip` measure.
"""

from __future__ import annotations

import select
import socket
import time

import numpy as np

from nomx.bench.generator import Saturation
from nomx.bench.roundtrip import RoundTrips
from nomx.bench.station import HEADERS_BYTES, MARKER, Target

WINDOW = 64
"""Requests in flight at once; few enough for the socket's buffer, so that none is lost there."""

_TIMEOUT_S = 0.02


def saturate(target: Target, *, seconds: float, frame_bytes: int = 64) -> Saturation:
    """Keep WINDOW requests in flight for *seconds*; *frame_bytes* as if they were frames, FCS not included."""
    payload = MARKER + bytes(frame_bytes - HEADERS_BYTES - len(MARKER))
    sent = answered = 0
    with _socket(target) as client:
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            for _ in range(WINDOW):
                client.send(payload)
            sent += WINDOW
            answered += _collect(client, payload, WINDOW)
    return Saturation(frame_bytes, elapsed, sent, answered)


def _collect(client: socket.socket, payload: bytes, expected: int) -> int:
    """Count right answers until *expected* came, or none did for a while."""
    answered = 0
    while answered < expected and select.select([client], [], [], _TIMEOUT_S)[0]:
        answered += client.recv(len(payload) + 1) == payload
    return answered


def measure(target: Target, *, count: int) -> RoundTrips:
    """Measure *count* round trips, one request in flight; each waits in a blocking socket."""
    times = np.zeros(count, np.int64)
    with _socket(target) as client:
        for number in range(count):
            request = MARKER + number.to_bytes(8, "little")
            start = time.monotonic_ns()
            client.send(request)
            while select.select([client], [], [], _TIMEOUT_S)[0]:
                if client.recv(len(request) + 1) == request:  # an older one came after its time
                    times[number] = time.monotonic_ns() - start
                    break
    answered = times[times > 0]
    return RoundTrips.of(answered, count - answered.size)


def _socket(target: Target) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((target.address, target.port))
    return client
