"""Batching delay: nothing waits longer than it may, whatever comes when, and nothing is lost meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomx.app.control import Bell, LoopControl, delays_of
from nomx.app.tuning import SERVING, Tuning, tune
from nomx.errors import InvalidRequest
from nomx.ring.umem import audit
from nomx.stack.batching import Delays
from tests.unit.datapath.loops import ECHO, RAISES, Loop
from tests.unit.datapath.simulated import SimulatedXsk, request

US = 1000

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 6)),
        st.tuples(st.just("run"), st.integers(0, 60)),
        st.tuples(st.just("delay"), st.sampled_from((0, 5, 20, 100))),
        st.tuples(st.just("raise"), st.just(1)),
        st.tuples(st.just("transmit"), st.integers(1, 12)),
    ),
    min_size=5,
    max_size=60,
)


def serving(delays: Delays, **sizes: int) -> tuple[SimulatedXsk, Loop]:
    xsk = SimulatedXsk(**sizes)
    xsk.give_all()
    return xsk, Loop(xsk, delays=delays)


def deliver(xsk: SimulatedXsk, count: int = 1, port: int = ECHO) -> None:
    for _ in range(count):
        assert xsk.deliver(request(b"x", port))


def test_packets_wait_for_more_but_not_longer_than_the_delay() -> None:
    xsk, loop = serving(Delays(10 * US, 0))
    deliver(xsk)
    loop.run(now_ns=1 * US)
    deliver(xsk, 2)
    loop.run(now_ns=10 * US)
    assert (len(xsk.rx), len(xsk.tx)) == (3, 0)
    loop.run(now_ns=11 * US)
    assert (len(xsk.rx), len(xsk.tx)) == (0, 3)


def test_a_full_burst_does_not_wait() -> None:
    xsk, loop = serving(Delays(10 * US, 10 * US), burst=4)
    deliver(xsk, 5)
    loop.run(now_ns=1 * US)
    assert (len(xsk.rx), len(xsk.tx)) == (1, 4)
    loop.run(now_ns=10 * US)
    assert (len(xsk.rx), loop.staged) == (1, 0)
    loop.run(now_ns=11 * US)
    assert (len(xsk.rx), loop.staged) == (0, 1)


def test_answers_wait_unseen_by_the_kernel_and_leave_together() -> None:
    xsk, loop = serving(Delays(0, 20 * US))
    for now in (1, 8, 15):
        deliver(xsk)
        loop.run(now_ns=now * US)
    assert (loop.staged, len(xsk.tx)) == (3, 0)
    loop.run(now_ns=21 * US)
    assert (loop.staged, len(xsk.tx)) == (0, 3)


def test_a_delay_that_is_taken_away_holds_nothing_any_more() -> None:
    xsk, loop = serving(Delays(50 * US, 50 * US))
    deliver(xsk)
    loop.run(now_ns=1 * US)
    loop.run(now_ns=52 * US)
    deliver(xsk)
    loop.run(now_ns=53 * US)
    assert (len(xsk.rx), loop.staged) == (1, 1)
    loop.delays = Delays(0, 0)
    loop.run()
    assert (len(xsk.rx), loop.staged, len(xsk.tx)) == (0, 0, 2)


def test_an_exception_takes_no_held_answer_with_it() -> None:
    xsk, loop = serving(Delays(0, 20 * US))
    deliver(xsk, 2)
    loop.run(now_ns=1 * US)
    deliver(xsk, 1, RAISES)
    with pytest.raises(ValueError, match="the handler's own"):
        loop.run(now_ns=2 * US)
    assert (loop.staged, len(xsk.tx)) == (0, 2)


@given(schedule=steps, rx_us=st.sampled_from((0, 10, 50)), tx_us=st.sampled_from((0, 10, 50)), burst=st.integers(1, 16))
@settings(deadline=None, max_examples=150)
def test_nothing_is_held_longer_and_nothing_is_lost(
    schedule: list[tuple[str, int]], rx_us: int, tx_us: int, burst: int
) -> None:
    frames = 256
    xsk, loop = serving(Delays(rx_us * US, tx_us * US), frames=frames, ring=256, burst=burst)
    now = US
    seen_since: list[int] = []  # when each packet in the rx ring was first there at a round
    staged_since: list[int] = []
    for what, amount in schedule:
        if what in ("deliver", "raise"):
            deliver(
                xsk, amount if len(xsk.rx) < 200 and len(xsk.fill) > 10 else 0, ECHO if what == "deliver" else RAISES
            )
        elif what == "delay":
            loop.delays = Delays(amount * US, amount * US)
        elif what == "transmit":
            xsk.transmit(amount)
            xsk.complete()
        else:
            now += amount * US
            seen_since += [now] * (len(xsk.rx) - len(seen_since))
            staged = loop.staged
            try:
                loop.run(rounds=64, now_ns=now)
                seen_since = seen_since[len(seen_since) - len(xsk.rx) :]
            except ValueError:  # the loop is entered anew, and sees anew what is there
                seen_since = [now] * len(xsk.rx)
                continue
            staged_since = [] if loop.staged < staged else staged_since
            staged_since += [now] * (loop.staged - len(staged_since))
            assert all(now - since < loop.delays.rx_ns for since in seen_since)
            assert all(now - since < loop.delays.tx_ns for since in staged_since)
            assert loop.staged < burst
        assert audit(frames, xsk.places(loop.staged))["kernel"] == 0


def test_delays_are_told_in_microseconds_up_to_a_millisecond() -> None:
    assert delays_of(0, 1000) == Delays(0, 1_000_000)
    for wrong in ((-1, 0), (0, 1000.5), (float("nan"), 0)):
        with pytest.raises(InvalidRequest, match="0 to 1000 microseconds"):
            delays_of(*wrong)


def test_running_loops_are_tuned_all_or_none() -> None:
    with Bell() as bell:
        looking, calling = LoopControl([], bell), LoopControl([], bell, looking_calls=True)
        with SERVING.loops([looking, calling], Tuning()):
            assert tune(rx_delay_us=3) == Tuning(rx_delay_us=3)
            assert tune(wait="spin", tx_delay_us=4.5) == Tuning("spin", rx_delay_us=3, tx_delay_us=4.5)
            words = looking.words()
            with pytest.raises(InvalidRequest, match="wait"):
                tune(rx_delay_us=9, wait="soon")
            assert looking.words() == words == {"spin_ns": -1, "rx_delay_ns": 3000, "tx_delay_ns": 4500}
            tune(wait="adaptive")
            assert (looking.words()["spin_ns"], calling.words()["spin_ns"]) == (50_000, 0)
            with pytest.raises(InvalidRequest, match="nomx run --busy-poll"):
                tune(wait="busy-poll")
        tune(rx_delay_us=7)
        assert looking.words()["rx_delay_ns"] == 3000
