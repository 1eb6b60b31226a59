"""Budgets and locks: no rounding, no overdraft, whatever the clock does and however often they are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nomx.market.budget import Bucket, PriceLock
from nomx.market.money import SECOND_NS, cost

BUCKETS = st.builds(
    Bucket, rate=st.integers(0, 10**12), burst=st.integers(0, 10**15), tokens=st.integers(0, 10**15), at_ns=st.just(0)
)
PAIRS = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))


@given(BUCKETS, st.lists(st.integers(0, 10 * SECOND_NS), max_size=20))
def test_reading_a_bucket_often_changes_nothing(bucket: Bucket, gaps: list[int]) -> None:
    often, now_ns = bucket, 0
    for gap in gaps:
        now_ns += gap
        often = often.at(now_ns)
    assert often == bucket.at(now_ns) or often.at(now_ns + 1).tokens == bucket.at(now_ns + 1).tokens


@given(BUCKETS, st.integers(0, 10**15), st.integers(-SECOND_NS, 100 * SECOND_NS))
def test_what_flows_in_and_out_is_what_changes(bucket: Bucket, due: int, now_ns: int) -> None:
    after, received, paid = bucket.drained(now_ns, due)
    assert after.tokens == bucket.tokens + received - paid
    assert after.tokens >= 0
    assert 0 <= paid <= due
    assert received >= 0 or bucket.tokens > bucket.burst
    assert after.tokens <= max(bucket.burst, bucket.tokens)


@given(BUCKETS, st.integers(1, 100 * SECOND_NS), st.integers(0, 100 * SECOND_NS))
def test_a_sustained_rate_does_not_run_dry(bucket: Bucket, horizon_ns: int, elapsed_ns: int) -> None:
    elapsed_ns = min(elapsed_ns, horizon_ns)
    due = bucket.sustained_rate(horizon_ns) * elapsed_ns // SECOND_NS
    assert bucket.drained(elapsed_ns, due)[2] >= due - 1


def test_a_clock_that_goes_back_adds_nothing_and_is_taken_as_it_is() -> None:
    bucket = Bucket(rate=10, burst=100, tokens=0, at_ns=5 * SECOND_NS)
    back = bucket.at(2 * SECOND_NS)
    assert back.tokens == 0
    assert back.at(3 * SECOND_NS).tokens == 10


def test_a_clock_that_leaps_ahead_fills_it_and_no_more() -> None:
    assert Bucket(rate=10, burst=100, tokens=0, at_ns=0).at(10**6 * SECOND_NS).tokens == 100


@given(st.builds(Bucket, rate=st.integers(1, 100), burst=st.just(50), tokens=st.integers(0, 9), at_ns=st.just(0)))
def test_the_wait_told_is_the_wait_there_is(bucket: Bucket) -> None:
    wait_ns = bucket.wait_ns(10)
    assert bucket.at(wait_ns).take(10) is not None
    assert bucket.at(wait_ns - 1).take(10) is None


@given(PAIRS, PAIRS, PAIRS, PAIRS)
def test_a_locked_price_is_never_more_than_the_published_one(
    locked: tuple[int, int], covered: tuple[int, int], published: tuple[int, int], wanted: tuple[int, int]
) -> None:
    lock = PriceLock(locked, covered, until_ns=1)
    assert 0 <= lock.cost(published, wanted) <= cost(published, wanted)
    assert lock.covering(wanted).cost(published, wanted) == lock.cost(published, wanted)


def test_only_what_was_held_is_locked() -> None:
    lock = PriceLock((10, 5), (2, 2), until_ns=1)
    assert lock.cost((30, 4), (3, 3)) == 2 * 10 + 1 * 30 + 3 * 4
    assert lock.covering((1, 5)).cost((30, 4), (3, 3)) == 1 * 10 + 2 * 30 + 3 * 4
