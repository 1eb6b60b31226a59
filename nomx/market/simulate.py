"""Hours of a market in seconds: a scenario under several policies, with the same tenants; for `nomx market simulate`.

The exchange is the real one. What is simulated are the tenants (`population`) and how they answer a revocation:
most give back after a random part of the grace period, some never do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import fmean

from nomx.errors import NotGranted
from nomx.market import regret
from nomx.market.bids import Menu
from nomx.market.book import Book
from nomx.market.exchange import Exchange, Turn
from nomx.market.ledger import HOST, Line
from nomx.market.money import HOST_GOODS, MAX_RATE, MICRO, SECOND_NS, Prices, Quanta, lesser, minus
from nomx.market.policies import policy_named
from nomx.market.policy import Case, Policy, Tenant
from nomx.market.population import Event, events
from nomx.market.prices import welfare_bound
from nomx.market.scenario import Scenario

BOUND_SAMPLES = 60
"""How often in a run the bound on welfare is computed: it costs more than a clearing."""

Progress = Callable[[str, int, int], None]
"""Told what is running, how many periods of it are done, and how many there are."""


@dataclass(frozen=True)
class Series:
    """One number a period, in order: what figures are drawn from."""

    hours: list[float] = field(default_factory=list)
    welfare: list[float] = field(default_factory=list)
    """Credits a second that what tenants held was worth to them."""
    paid: list[float] = field(default_factory=list)
    """Credits a second."""
    changes: list[int] = field(default_factory=list)
    """Grants and revocations."""
    prices: list[Prices] = field(default_factory=list)
    used: list[list[float]] = field(default_factory=list)
    """The part of each resource that somebody possessed."""


@dataclass(frozen=True)
class Result:
    """What one policy came to. Rates are means over the run."""

    policy: str
    welfare: float
    """Credits a second."""
    welfare_part: float
    """Of the upper bound on what any policy could reach, in the periods for which that was computed."""
    paid: float
    """Credits a second: the host's revenue."""
    changes_per_tenant_hour: float
    repossessions: int
    refused: int
    """Tenants whose floor did not fit."""
    used: dict[str, float]
    prices: dict[str, float]
    """Mean prices, in credits a unit and second."""
    regret_p95: float | None
    """95th percentile of what lying gained, as a part of value; None where it was not sampled."""
    series: Series


@dataclass(frozen=True)
class Comparison:
    """A scenario's results, policy by policy, in the order of the scenario."""

    title: str
    bound: float
    """An upper bound on mean welfare, in credits a second, floors aside."""
    bounds: tuple[tuple[float, float], ...]
    """The instants for which the bound was computed: (hours, credits a second)."""
    results: tuple[Result, ...]


def simulate(scenario: Scenario, progress: Progress = lambda *_: None) -> Comparison:
    """Run *scenario* under each of its policies; equal scenarios give equal results.

    Raises: NotSupported: a policy cannot do so many tenants.
    """
    happenings = list(events(scenario))
    bounds = _bounds(scenario, happenings, progress)
    results = tuple(
        _Run(scenario, policy_named(name)).through(happenings, bounds, progress) for name in scenario.policies
    )
    sampled = tuple((period * scenario.period_s / 3600, bound) for period, bound in bounds.items())
    return Comparison(scenario.title, fmean(bounds.values()), sampled, results)


def _bounds(scenario: Scenario, happenings: Iterable[Event], progress: Progress) -> dict[int, float]:
    """By sampled period, the bound on what the tenants there could be worth together, in credits a second."""
    room = minus(scenario.host.quanta, _floor(scenario))
    every = max(1, scenario.periods // BOUND_SAMPLES)
    present: dict[str, Menu] = {}
    bounds: dict[int, float] = {}
    pending = list(happenings)[::-1]
    for period in range(0, scenario.periods, every):
        now_ns = period * int(scenario.period_s * SECOND_NS)
        while pending and pending[-1].at_ns <= now_ns:
            event = pending.pop()
            present.pop(event.tenant, None)
            if event.what != "leave":
                present[event.tenant] = event.profile.menu(event.load, room, 0.0)
        supply = tuple(c - len(present) * f for c, f in zip(scenario.host.quanta, _floor(scenario), strict=True))
        case = _case(present, tuple(max(0, count) for count in supply))
        bounds[period] = welfare_bound(Book.of(case)) / MICRO
        progress("bound", period + 1, scenario.periods)
    return bounds


def _floor(scenario: Scenario) -> Quanta:
    return HOST_GOODS.quanta(scenario.floor, "floor")


def _case(menus: dict[str, Menu], supply: Quanta) -> Case:
    nothing = HOST_GOODS.nothing
    tenants = [Tenant(name, seniority, menu, nothing) for seniority, (name, menu) in enumerate(menus.items())]
    return Case.of(HOST_GOODS, supply, (1,) * len(supply), tenants)


class _Run:
    """One policy's run through the scenario."""

    def __init__(self, scenario: Scenario, policy: Policy) -> None:
        self.scenario = scenario
        self.policy = policy
        self.exchange = Exchange(scenario.host.quanta, policy, scenario.rules)
        self.random = Random(f"{scenario.seed} {policy.name}")
        self.period_ns = int(scenario.period_s * SECOND_NS)
        self.menus: dict[str, Menu] = {}
        self.floor = _floor(scenario)
        self.series = Series()
        self.ahead: list[tuple[int, int, str, Quanta]] = []
        """What is to come before the next bids: who gives back what and when; no name for a deadline. A heap."""
        self.worth = 0
        """Micro-credit-nanoseconds of value in this period."""
        self.repossessions = self.refused = self.expected = 0

    def through(self, happenings: Sequence[Event], bounds: Mapping[int, float], progress: Progress) -> Result:
        """Run all periods."""
        pending = list(happenings)[::-1]
        for period in range(self.scenario.periods):
            now_ns = period * self.period_ns
            changed: dict[str, Menu] = {}
            while pending and pending[-1].at_ns <= now_ns:
                self._happen(pending.pop(), now_ns, changed)
            self._tick(now_ns)
            self.menus |= changed
            self._wait_until(now_ns + self.period_ns)
            progress(self.policy.name, period + 1, self.scenario.periods)
        self._tick(self.scenario.periods * self.period_ns)
        return self._result(bounds)

    def _happen(self, event: Event, now_ns: int, changed: dict[str, Menu]) -> None:
        """Do what *event* says; new values count from the next period on, as that is when they can be served."""
        name, room = event.tenant, minus(self.scenario.host.quanta, self.floor)
        if event.what == "leave":
            if name in self.exchange.tenants:
                self._note(self.exchange.leave(name, now_ns))
                self.menus.pop(name, None)
                changed.pop(name, None)
            return
        menu = event.profile.menu(event.load, room, self.scenario.switching_cost)
        if event.what == "join" and not self._join(name, menu, now_ns):
            return
        if name in self.exchange.tenants:
            points = [(HOST_GOODS.by_name(point.quanta), point.value) for point in menu.points]
            self.exchange.bid(name, now_ns, points, menu.switching_cost)
            changed[name] = menu

    def _join(self, name: str, menu: Menu, now_ns: int) -> bool:
        best = max((point.value for point in menu.points), default=0)
        factor = self.scenario.income
        income = MAX_RATE // 2 if factor is None else min(MAX_RATE // 2, int(factor * best))
        savings = int(income * self.scenario.savings_s) if factor is not None else income
        try:
            self._note(self.exchange.join(name, now_ns, floor=self.scenario.floor, income=income, savings=savings))
        except NotGranted:
            self.refused += 1
            return False
        return True

    def _tick(self, now_ns: int) -> None:
        paid = self.exchange.ledger.balance(HOST)
        turn = self.exchange.tick(now_ns)
        self._note(turn)
        for deadline_ns in {revocation.deadline_ns for revocation in turn.changes.revocations}:
            self._expect(deadline_ns, "", ())
        for revocation in turn.changes.revocations:
            if self.random.random() >= self.scenario.ignore:
                delay_ns = int(self.random.random() * (revocation.deadline_ns - now_ns))
                self._expect(now_ns + delay_ns, revocation.tenant, revocation.quanta)
        collected = self.exchange.ledger.balance(HOST) - paid
        self._record(now_ns, collected, len(turn.changes.grants) + len(turn.changes.revocations))

    def _record(self, now_ns: int, collected: int, changes: int) -> None:
        """Note the period that ends now; before the first there is none."""
        capacity, free = self.scenario.host.quanta, self.exchange.delivery.free
        series = self.series
        if now_ns:
            series.hours.append(now_ns / SECOND_NS / 3600)
            series.welfare.append(self.worth / self.period_ns / MICRO)
            series.paid.append(collected * SECOND_NS / self.period_ns / MICRO)
            series.changes.append(changes)
            series.prices.append(self.exchange.prices)
            series.used.append([1 - f / c if c else 0.0 for f, c in zip(free, capacity, strict=True)])
        self.worth = 0

    def _expect(self, at_ns: int, name: str, quanta: Quanta) -> None:
        self.expected += 1
        heapq.heappush(self.ahead, (at_ns, self.expected, name, quanta))

    def _wait_until(self, end_ns: int) -> None:
        """Let tenants give back and deadlines pass, in order of time, up to the next period."""
        while self.ahead and self.ahead[0][0] < end_ns:
            at_ns, _, name, quanta = heapq.heappop(self.ahead)
            if not name:
                self._note(self.exchange.repossess(at_ns))
            elif name in self.exchange.tenants:
                delivery = self.exchange.delivery
                left = minus(delivery.possessed(name), delivery.held(name))
                self._note(self.exchange.give_back(name, lesser(quanta, left), at_ns))

    def _note(self, turn: Turn) -> None:
        """Add up what the lines of *turn* were worth to their tenants."""
        self.repossessions += len(turn.changes.repossessions)
        for line in turn.lines:
            self.worth += self._worth_of(line) * (line.to_ns - line.from_ns)

    def _worth_of(self, line: Line) -> int:
        menu = self.menus.get(line.tenant)
        return menu.value_of(minus(line.held, self.floor)) if menu else 0

    def _result(self, bounds: Mapping[int, float]) -> Result:
        series, end_ns = self.series, self.scenario.periods * self.period_ns
        gains: list[float] = []
        if self.policy.charges and self.scenario.regret_samples:
            gains = regret.sample(self.policy, self.exchange.case(end_ns), self.random, self.scenario.regret_samples)
        resources = HOST_GOODS.resources
        prices = zip(resources, zip(*series.prices, strict=True), strict=True)
        reached = sum(series.welfare[period] for period in bounds)
        return Result(
            policy=self.policy.name,
            welfare=fmean(series.welfare),
            welfare_part=reached / (sum(bounds.values()) or 1.0),
            paid=fmean(series.paid),
            changes_per_tenant_hour=sum(series.changes) / self.scenario.tenants / series.hours[-1],
            repossessions=self.repossessions,
            refused=self.refused,
            used={r.name: fmean(part) for r, part in zip(resources, zip(*series.used, strict=True), strict=True)},
            prices={r.name: fmean(column) * r.quanta_per_unit / MICRO for r, column in prices},
            regret_p95=percentile(gains, 95) if gains else None,
            series=series,
        )


def percentile(numbers: Iterable[float], percent: float) -> float:
    """The smallest number that *percent* of *numbers* do not exceed (nearest rank)."""
    ranked = sorted(numbers)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
