"""What a tenant could gain by lying: sampled misreports against the truth, at rest; for simulation and experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from nomx.market.bids import Menu, Point
from nomx.market.money import MAX_RATE
from nomx.market.policy import Case, Outcome, Policy

SETTLE_PERIODS = 30
"""Periods in which prices come to rest before anybody lies."""

LIE_PERIODS = 10
"""Periods for which a lie is kept up before it is judged: long enough for prices to answer it."""

Lie = Callable[[Menu], Menu]


def _scaled(factor: float) -> Lie:
    def lie(menu: Menu) -> Menu:
        points = (Point(p.quanta, min(MAX_RATE, max(1, int(p.value * factor)))) for p in menu.points)
        return replace(menu, points=tuple(points))

    return lie


def _only(place: int) -> Lie:
    return lambda menu: replace(menu, points=menu.points[place:][:1])


def _steeper(factor: float) -> Lie:
    """Shade each point but the best, so as to seem to need all or nothing."""

    def lie(menu: Menu) -> Menu:
        best = max((p.value for p in menu.points), default=0)
        shaded = (p if p.value == best else Point(p.quanta, max(1, int(p.value * factor))) for p in menu.points)
        return replace(menu, points=tuple(shaded))

    return lie


LIES: tuple[Lie, ...] = (
    *(_scaled(factor) for factor in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.3, 2.0)),
    *(_only(place) for place in range(4)),
    lambda menu: replace(menu, points=menu.points[-1:]),
    lambda menu: replace(menu, points=menu.points[: max(1, len(menu.points) // 2)]),
    _steeper(0.5),
    _steeper(0.9),
)
"""Values scaled down and up, parts of the menu withheld, complements feigned."""


def settled(policy: Policy, case: Case, periods: int) -> tuple[Case, Outcome]:
    """Let *policy* decide the same bids for some *periods*; the last case, and its outcome."""
    for _ in range(periods - 1):
        case = following(case, policy.clear(case))
    return case, policy.clear(case)


def following(case: Case, outcome: Outcome) -> Case:
    """The case of the next period, if nobody changes anything."""
    tenants = tuple(replace(t, holding=outcome.awards[t.name].quanta, lock=None) for t in case.tenants)
    return replace(case, tenants=tenants, carry=outcome.carry)


def sample(policy: Policy, case: Case, random: Random, count: int, lies: Sequence[Lie] = LIES) -> list[float]:
    """For *count* tenants drawn at random, the most that one of *lies* gains each, as a part of the value it gets.

    Everybody else tells the truth, as in a Nash equilibrium. A liar gets what the point it is given is truly worth.
    Sampled lies show that a mechanism is not truthful; that it is, no sample can show.
    """
    case, truth = settled(policy, case, SETTLE_PERIODS)
    rest = following(case, truth)
    places = random.sample(range(len(rest.tenants)), min(count, len(rest.tenants)))
    return [_gain(policy, rest, truth, place, lies) for place in places]


def _gain(policy: Policy, case: Case, truth: Outcome, place: int, lies: Sequence[Lie]) -> float:
    tenant = case.tenants[place]
    honest = truth.awards[tenant.name]
    best = 0.0
    for lie in lies:
        liar = replace(tenant, menu=lie(tenant.menu))
        if not liar.menu.points or liar.menu == tenant.menu:
            continue
        tenants = (*case.tenants[:place], liar, *case.tenants[place + 1 :])
        _, outcome = settled(policy, replace(case, tenants=tenants), LIE_PERIODS)
        award = outcome.awards[tenant.name]
        value = tenant.menu.value_of(award.quanta)
        gain = (value - award.payment) - (honest.value - honest.payment)
        best = max(best, gain / max(value, honest.value, 1))
    return best
