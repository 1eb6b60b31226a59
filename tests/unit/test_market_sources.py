"""Price sources: what is in force when, what is broken where, and who has stopped talking."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from random import Random
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.errors import InvalidRequest
from nomx.market.money import HOST_GOODS, MICRO, SECOND_NS
from nomx.market.sources import SpotModel, Steps, Told, fixed, schedule, spot, trace

CORES, MEMORY = 0, 1


def test_a_fixed_price_is_one() -> None:
    source = fixed((1, 2, 3, 4))
    assert source.at(0) == source.at(10**18)
    assert not source.at(10**18).stale


def test_the_papers_schedule() -> None:
    source = schedule(HOST_GOODS, [(0, {"bandwidth": 1}), (60, {"bandwidth": 10})])
    assert source.at(60 * SECOND_NS - 1).prices == (0, 0, 0, MICRO // 10)
    assert source.at(60 * SECOND_NS).prices == (0, 0, 0, MICRO)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([], "prices"),
        ([(0, {"gpus": 1})], "steps[0], gpus"),
        ([(0, {"cores": -1})], "steps[0], cores"),
        ([(0, {"cores": math.inf})], "steps[0], cores"),
        ([(-1, {"cores": 1})], "steps[0].seconds"),
        ([(5, {"cores": 1}), (5, {"cores": 2})], "times"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(steps: list[tuple[float, dict[str, float]]], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        schedule(HOST_GOODS, steps)
    assert named in str(refused.value)


TRACE = "seconds,cores,memory\n0,0.5,0.01\n\n10, 1 ,0.02\n20,0.25,0.02\n"


def test_a_trace_is_replayed_and_goes_stale_at_its_end() -> None:
    source = trace(HOST_GOODS, TRACE.splitlines())
    assert source.at(0).prices[:2] == (500_000, 2_500)
    assert source.at(10 * SECOND_NS).prices[:2] == (1_000_000, 5_000)
    assert not source.at(20 * SECOND_NS - 1).stale
    last = source.at(10**15)
    assert (last.prices[CORES], last.stale) == (250_000, True)
    assert "ended" in last.reason


def test_a_trace_runs_at_any_speed() -> None:
    assert trace(HOST_GOODS, TRACE.splitlines(), speed=10).at(SECOND_NS).prices[CORES] == 1_000_000
    for speed in (0, -1, math.nan, math.inf):
        with pytest.raises(InvalidRequest, match="speed"):
            trace(HOST_GOODS, TRACE.splitlines(), speed)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1"),
        ("seconds\n0", "line 1"),
        ("time,cores\n0,1", "line 1"),
        ("seconds,cores,cores\n0,1,1", "line 1"),
        ("seconds,cores\n", "line 2"),
        ("seconds,gpus\n0,1", "line 2, gpus"),
        ("seconds,cores\n0,1\n1,2\n2", "line 4"),
        ("seconds,cores\n0,1\n\n1,2,3", "line 4"),
        ("seconds,cores\n0,1\n1,x", "line 3, cores"),
        ("seconds,cores\n0,1\n1,-2", "line 3, cores"),
        ("seconds,cores\n0,1\n1,nan", "line 3, cores"),
        ("seconds,cores\n0,1\n1,1e99", "line 3, cores"),
        ("seconds,cores\n0,1\n0,2", "line 3, seconds"),
        ("seconds,cores\n5,1\n4,2", "line 3, seconds"),
        ("seconds,cores\ninf,1", "line 2, seconds"),
        ('seconds,cores\n0,"1', "line 2, cores"),
        ("seconds,cores\n0,\x00", "line 2, cores"),
    ],
)
def test_a_broken_trace_names_the_line(text: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        trace(HOST_GOODS, text.splitlines())
    assert named in str(refused.value)


@given(st.text(alphabet="seconds,cores0123456789.-e\n", max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        source = trace(HOST_GOODS, text.splitlines())
    except InvalidRequest:
        return
    assert isinstance(source, Steps)


@given(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(4_000, 10**9))
def test_spot_prices_stay_in_their_band_and_move(seed: int, lowest: int, width: int) -> None:
    model = SpotModel(lowest, lowest + width, tick=1_000)
    prices = list(islice(model.prices(Random(seed)), 50))
    assert prices == list(islice(model.prices(Random(seed)), 50))
    assert prices[0] == lowest
    assert all(lowest <= price <= lowest + width for price in prices)
    assert all(later != earlier for earlier, later in pairwise(prices))


def test_spot_prices_follow_the_papers_autoregression() -> None:
    """Changes are negatively correlated, about -0.7 less what the band cuts off, and as large as the paper says."""
    model = SpotModel(0, 10 * MICRO)
    prices = list(islice(model.prices(Random(7)), 20_000))
    changes = [later - earlier for earlier, later in pairwise(prices)]
    mean, spread = fmean(changes), pstdev(changes)
    correlation = fmean((a - mean) * (b - mean) for a, b in pairwise(changes)) / spread**2
    assert -0.8 < correlation < -0.5
    assert 0.3 < spread / (10 * MICRO) < 0.55
    assert all(price % 1_000 == 0 for price in prices)


@pytest.mark.parametrize("band", [(0, 3_999), (10, 5), (-1, 10**6), (0, 10**13)])
def test_a_band_has_room_to_move_in(band: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest):
        SpotModel(*band)


def test_spot_prices_move_the_resources_that_have_a_band() -> None:
    source = spot(HOST_GOODS, {"cores": SpotModel(0, MICRO)}, Random(1), every_ns=SECOND_NS, count=10)
    assert source.at(0).prices == (0, 0, 0, 0)
    assert source.at(SECOND_NS).prices[CORES] > 0
    assert source.at(SECOND_NS).prices[MEMORY] == 0
    with pytest.raises(InvalidRequest, match="gpus"):
        spot(HOST_GOODS, {"gpus": SpotModel(0, MICRO)}, Random(1), every_ns=1, count=1)


def test_a_source_that_dies_leaves_its_last_prices_and_says_so() -> None:
    source = Told((5,), stale_after_ns=2 * SECOND_NS)
    source.tell((7,), 10 * SECOND_NS)
    assert source.at(12 * SECOND_NS).stale is False
    quote = source.at(15 * SECOND_NS)
    assert (quote.prices, quote.stale) == ((7,), True)
    assert "5 s" in quote.reason
