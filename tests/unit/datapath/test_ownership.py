"""Every frame is in exactly one place, whatever the kernel and the peer do when, and wherever the indices wrap."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomx.ring.umem import FramePool, audit
from tests.unit.datapath.loops import ECHO, GROWS, RAISES, SILENT, Loop
from tests.unit.datapath.simulated import SimulatedXsk, request

PORTS = (ECHO, SILENT, RAISES, GROWS, 99)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 12)),
        st.tuples(st.just("run"), st.integers(1, 3)),
        st.tuples(st.just("transmit"), st.integers(0, 12)),
        st.tuples(st.just("complete"), st.integers(0, 12)),
    ),
    min_size=5,
    max_size=60,
)


def _take(xsk: SimulatedXsk, loop: Loop, what: str, amount: int, number: int) -> None:
    if what == "deliver":
        for each in range(amount):
            xsk.deliver(request(b"%d" % each, PORTS[(number + each) % len(PORTS)]))
    elif what == "run":
        with contextlib.suppress(ValueError):  # the handler that raises
            loop.run(amount)
    elif what == "transmit":
        xsk.transmit(amount)
    else:
        xsk.complete(amount)


@given(
    schedule=steps,
    frames=st.integers(4, 40),
    ring=st.sampled_from((4, 8, 32)),
    burst=st.integers(1, 64),
    start=st.sampled_from((0, 5, (1 << 32) - 3)),
)
@settings(deadline=None, max_examples=150)
def test_no_frame_is_lost_or_doubled(
    schedule: list[tuple[str, int]], frames: int, ring: int, burst: int, start: int
) -> None:
    xsk = SimulatedXsk(frames=frames, ring=ring, burst=burst, start=start)
    xsk.give_all()
    loop = Loop(xsk)
    for number, (what, amount) in enumerate(schedule):
        _take(xsk, loop, what, amount, number)
        assert audit(frames, xsk.places())["kernel"] == 0
    while len(xsk.rx) or len(xsk.tx) or xsk.kernel_holds or len(xsk.completion):
        _take(xsk, loop, "run", 1, 0)
        xsk.transmit()
        xsk.complete()
    assert audit(frames, xsk.places())["fill"] == frames
    assert loop.counters.get("tx_packets", 0) == len(xsk.sent)


def test_the_audit_sees_a_frame_in_two_places() -> None:
    with pytest.raises(AssertionError, match="more than one place"):
        audit(4, {"fill": [0, 1], "rx": [1]})
    with pytest.raises(AssertionError, match="no frames of this memory"):
        audit(4, {"fill": [4]})
    assert audit(4, {"fill": [0, 1], "rx": [3]}) == {"fill": 2, "rx": 1, "kernel": 1}


def test_a_full_tx_ring_holds_packets_back_in_the_rx_ring() -> None:
    xsk = SimulatedXsk(frames=16, ring=4)
    xsk.give_all()
    loop = Loop(xsk)
    for _ in range(4):
        xsk.deliver(request(b"", ECHO))
    loop.run()
    for _ in range(4):
        xsk.deliver(request(b"", ECHO))
    loop.run()
    assert (len(xsk.tx), len(xsk.rx)) == (4, 4)
    assert loop.counters["tx_full"] == 1
    xsk.transmit()
    xsk.complete()
    loop.run()
    assert (len(xsk.tx), len(xsk.rx)) == (4, 0)


def test_a_pool_gives_what_it_has() -> None:
    pool = FramePool(range(3))
    taken = pool.take(2)
    assert (sorted(taken), len(pool)) == ([1, 2], 1)
    assert list(pool.take(5)) == [0]
    assert len(pool.take(1)) == 0
    pool.give(taken)
    assert sorted(pool) == [1, 2]
