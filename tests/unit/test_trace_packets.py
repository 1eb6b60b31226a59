"""Packets counted where they are: rings that wrap, sockets that come and go, devices, leases that end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nomx.api.lease import Traffic
from nomx.errors import InvalidRequest, LeaseClosed
from nomx.linux.abi_trace import XskRecord
from nomx.trace.packets import DeviceSource, LeaseSource, LocalSource, source_of
from nomx.trace.report import Packets
from nomx.trace.target import Target

NONE = Packets()


def xsk(inode: int, received: int, sent: int, refused: int = 0) -> XskRecord:
    plain = dict.fromkeys(XskRecord._fields, 0)
    return XskRecord(**{**plain, "inode": inode, "rx_produced": received, "tx_consumed": sent, "rx_ring_full": refused})


def test_rings_count_from_where_they_were_and_wrap() -> None:
    source = LocalSource(by_packet=True)
    source.read(NONE, [xsk(1, 2**32 - 10, 5)])
    found = source.read(NONE, [xsk(1, 20, 7)])
    assert (found.rx, found.tx) == (30, 2)
    assert source.where == "AF_XDP rings"


def test_a_socket_made_while_tracing_counts_from_nothing_and_stays_when_it_goes() -> None:
    source = LocalSource(by_packet=True)
    source.read(NONE, [])
    source.watch([xsk(2, 100, 50)])
    source.watch([])
    found = source.read(Packets(rx=3, tx=4), [xsk(3, 1, 1)])
    assert (found.rx, found.tx) == (104, 55)
    assert source.where == "sockets (each packet) and AF_XDP rings"


def test_messages_are_told_from_packets() -> None:
    assert "a call of TCP" in LocalSource(by_packet=False).where


def test_a_lease_counts_from_the_start_and_keeps_its_last_count() -> None:
    answers: list[Traffic | None] = [Traffic(rx_packets=10, tx_packets=5, counted_at="xsk")] * 2
    answers += [Traffic(rx_packets=25, tx_packets=6), None]

    def observe() -> Traffic:
        answer = answers.pop(0)
        if answer is None:
            raise LeaseClosed(lease="L1", reason="released")
        return answer

    source = LeaseSource(observe)
    assert source.where == "lease (xsk)"
    assert source.read(NONE, []) == Packets(rx=15, tx=1)
    assert source.read(NONE, []) == Packets(rx=15, tx=1)
    assert "shortly before its end" in source.where


def test_frames_that_a_leases_sockets_had_no_room_for_are_no_packets() -> None:
    answers = [Traffic(rx_packets=100, rx_bytes=6000, counted_at="xsk")] * 2
    answers += [Traffic(rx_packets=200, rx_bytes=12000, tx_packets=40, counted_at="xsk")]
    source = LeaseSource(lambda: answers.pop(0))
    source.watch([xsk(1, 0, 0, refused=1000)])
    source.watch([xsk(1, 0, 0, refused=1050), xsk(2, 0, 0, refused=10)])
    source.watch([])
    assert source.read(NONE, []) == Packets(rx=40, tx=40, rx_bytes=2400)


def test_a_device_is_counted_in_the_targets_namespace() -> None:
    source = DeviceSource(os.getpid(), "lo")
    assert source.read(NONE, []).rx >= 0
    assert "everybody" in source.where
    with pytest.raises(InvalidRequest, match="a device that the target sees"):
        DeviceSource(os.getpid(), "nosuch0")


def target(traffic: Callable[[], Traffic] | None = None) -> Target:
    return Target("1", 1, "process", pid=os.getpid(), traffic=traffic)


@pytest.mark.parametrize("choice", ["rings", "device", "device:", "lease"])
def test_a_place_that_is_none_is_refused(choice: str) -> None:
    with pytest.raises(InvalidRequest, match="packets"):
        source_of(target(), choice)


def test_the_lease_is_taken_where_it_has_a_device() -> None:
    assert isinstance(source_of(target(Traffic)), LeaseSource)
    assert isinstance(source_of(target(Traffic), "local"), LocalSource)
    assert isinstance(source_of(target()), LocalSource)
    assert isinstance(source_of(target(), "device:lo"), DeviceSource)
