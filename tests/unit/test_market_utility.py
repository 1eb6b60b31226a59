"""Utility functions: the paper's formulas in their units, and the axiom that one's own must keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.errors import InvalidRequest
from nomx.market.utility import Bonus, Domain, Measured, Penalty, Refund, Utility, check_axiom, exceeds, named

POSITIVE = st.floats(1e-6, 1e3)


def at(throughput_gbps: float, latency_us: float, jitter_us: float = 0.0, cost: float = 0.0) -> Measured:
    return Measured(throughput_gbps, latency_us * 1e-6, jitter_us * 1e-6, cost)


def test_the_papers_values() -> None:
    """A Gbit/s within the objective, at $1 a Gbit: 20 - 1 for penalty; 20 - 10 * 500e-6 - 1; 20 + 0.01 / 500e-6 - 1."""
    measured = at(1.0, 500, cost=1.0)
    assert Penalty()(measured) == pytest.approx(19)
    assert Refund()(measured) == pytest.approx(18.995)
    assert Bonus()(measured) == pytest.approx(39)
    assert Bonus(delta=5)(measured) == pytest.approx(24)


def test_a_penalty_is_a_hundred_times_the_part_that_is_late() -> None:
    """Three standard deviations below the objective 0.135 % are late: 13.5 % of the price is lost."""
    assert Penalty()(at(1.0, 450, jitter_us=100)) == pytest.approx(20 * (1 - 0.135), rel=1e-3)
    assert Penalty()(at(1.0, 800, jitter_us=100)) == 0


def test_sending_can_cost_more_than_it_earns() -> None:
    assert Refund(alpha=5)(at(2.0, 100, cost=20.0)) < 0


def test_without_jitter_a_request_is_late_or_not() -> None:
    assert exceeds(1.0, 0.9, 0.0) == 0
    assert exceeds(1.0, 1.1, 0.0) == 1
    assert exceeds(1.0, 1.0, 5.0) == 0.5


@given(alpha=POSITIVE, other=POSITIVE, factor=st.floats(2, 1e4), objective_s=st.floats(1e-6, 1))
def test_the_papers_functions_keep_the_axiom(alpha: float, other: float, factor: float, objective_s: float) -> None:
    domain = Domain((0.01, 1.0, 10.0), (1e-6, 1e-4, 7e-4, 8e-4, 1e-2), (0.0, 1e-5, 1e-3), (0.0, 1.0))
    for utility in (Penalty(alpha, objective_s, factor), Refund(alpha, other), Bonus(alpha, other, alpha)):
        check_axiom(utility, domain)


@pytest.mark.parametrize("utility", [Penalty(), Refund(), Bonus(), Bonus(delta=1.0)])
def test_they_keep_it_on_the_whole_domain(utility: Utility) -> None:
    check_axiom(utility)


@pytest.mark.parametrize(
    ("wrong", "named_"),
    [
        (lambda m: -m.throughput_gbps, "falls as throughput_gbps"),
        (lambda m: m.throughput_gbps * m.latency_s, "rises as latency_s"),
        (lambda m: m.jitter_s, "rises as jitter_s"),
        (lambda m: m.throughput_gbps * m.cost, "rises as cost"),
        (lambda m: math.sin(m.throughput_gbps), "falls as throughput_gbps"),
        (lambda m: math.nan, "finite"),
        (lambda m: math.inf, "finite"),
    ],
)
def test_a_function_that_breaks_it_is_refused_with_an_example(wrong: Callable[[Measured], float], named_: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_axiom(wrong)
    assert named_ in str(refused.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Penalty(alpha=0),
        lambda: Penalty(alpha=math.nan),
        lambda: Penalty(factor=1.9),
        lambda: Penalty(objective_s=-1),
        lambda: Refund(beta=math.inf),
        lambda: Bonus(delta=0),
    ],
)
def test_parameters_are_positive(build: Callable[[], Utility]) -> None:
    with pytest.raises(InvalidRequest):
        build()


def test_a_factor_of_one_would_break_the_axiom() -> None:
    """Why a factor below 2 is refused: above the objective jitter would bring some requests back in time."""
    late = [1 * exceeds(750e-6, 800e-6, jitter) for jitter in (1e-5, 1e-3)]
    assert late[1] < late[0]


def test_functions_are_named_as_people_write_them() -> None:
    assert named("penalty") == Penalty()
    assert named("penalty:alpha=5, objective_s=0.001") == Penalty(alpha=5, objective_s=0.001)
    for wrong in ("profit", "penalty:beta=1", "penalty:alpha", "penalty:alpha=x", "bonus:delta=-1"):
        with pytest.raises(InvalidRequest):
            named(wrong)
