"""The market as a policy: one uniform price a resource, found by dual descent, smoothed, paid by whoever is served.

Clearing is the whole mechanism of one period; its parts are in `prices` (what a resource costs) and `assign` (who gets
it). It is *approximately* truthful where many tenants compete, as no single bid then moves a price; with few it is not,
and nothing here claims it (experiments/0006-market measures the gain from misreporting by size).

Source: Agmon Ben-Yehuda et al., "The Resource-as-a-Service (RaaS) Cloud" (HotCloud 2012); Ben-Yehuda et al., "The nom
Profit-Maximizing Operating System" (VEE 2016); for uniform prices over indivisible bundles, Budish, "The Combinatorial
Assignment Problem: Approximate Competitive Equilibrium from Equal Incomes" (J. Political Economy 2011).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nomx.errors import InvalidRequest
from nomx.market import assign
from nomx.market.bids import Menu, Point
from nomx.market.book import Book, Flags, Floats, Integers
from nomx.market.money import MAX_RATE, MICRO
from nomx.market.policy import MAX_WEIGHT, Award, Carry, Case, Outcome, Tenant
from nomx.market.prices import Smoothing, clearing_prices

MARGIN = 0.02
"""The part by which the price aimed at may be below the clearing price, to serve who would otherwise just not be."""

FEW = 12
"""Where no more tenants than this compete, it may be any distance below, down to the reserve."""

WORTH_A_CUT = 0.01
"""The part by which welfare has to rise for that."""


@dataclass(frozen=True)
class Market:
    """Uniform-price market over operating points, cleared each period."""

    smoothing: Smoothing = field(default_factory=Smoothing)
    name: str = "market"
    charges: bool = True

    def clear(self, case: Case) -> Outcome:
        """Decide one period.

        Raises: InvalidRequest: a reserve price below 1 (a price of 0 could never rise by a factor).
        """
        if min(case.reserve) < 1:
            raise InvalidRequest(
                field="reserve", value=case.reserve, expected="1 micro-credit at least for each resource"
            )
        reserve = np.array(case.reserve, dtype=np.int64)
        book = Book.of(case)
        last = np.array(case.carry.clearing) if case.carry.clearing else None
        choice = _Choice(book, clearing_prices(book, last, reserve))
        published = self._publish(case, choice.supporting_prices(reserve))
        return _outcome(case, book, choice.at(published), published, choice.scarcity)

    def _publish(self, case: Case, target: Integers) -> Integers:
        """The smoothed price. The first of all is not smoothed."""
        if not case.carry.published:
            return target
        return self.smoothing.publish(np.array(case.carry.published, dtype=np.int64), target)


class _Choice:
    """Who is served in one period, if resources are as scarce as the clearing price (*scarcity*) says.

    Smoothing delays what is paid, not who is served.
    """

    def __init__(self, book: Book, scarcity: Floats) -> None:
        self.book = book
        self.scarcity = scarcity
        self._known: dict[bytes, Integers] = {}
        """What was chosen among which possibilities: prices that are close make the same things possible."""

    def at(self, prices: Integers) -> Integers:
        """Everybody's choice, if *prices* are what is paid."""
        costs = self.book.cost(prices)
        possible = self.book.possible(costs)
        key = possible.tobytes()
        if key not in self._known:
            self._known[key] = self._among(possible)
        return assign.trade_up(self.book, possible, costs, self._known[key])

    def _among(self, possible: Flags) -> Integers:
        """The best choices found; those held, where they are possible and the others are not worth more.

        So each change raises what the market maximises, and unchanged bids come to rest.
        """
        book, held = self.book, self.book.held
        choices = assign.allocate(book, possible, self.scarcity)
        stays = bool(np.take_along_axis(possible, held[:, None], axis=1).all())
        fits = bool((book.demand(held) <= book.supply).all())
        return held if stays and fits and assign.worth(book, held) >= assign.worth(book, choices) else choices

    def supporting_prices(self, reserve: Integers) -> Integers:
        """The prices to aim at: the clearing prices, brought down to what everybody who ought to be served can bear.

        As bundles are indivisible, no linear price need support the best allocation: the clearing price may shut out
        the very tenant who makes the most of what is left. With many tenants that costs little, and MARGIN mends it.
        With few it may cost half the welfare.
        """
        book = self.book
        highest = np.maximum(np.floor(self.scarcity).astype(np.int64), reserve)
        lowest = np.maximum(np.floor(self.scarcity * (1 - MARGIN)).astype(np.int64), reserve)
        choices = self.at(lowest)
        if int((book.liquid.max(axis=1, initial=0) > 0).sum()) <= FEW:
            cheaper = self.at(reserve)
            if assign.worth(book, cheaper) * (1 - WORTH_A_CUT) > assign.worth(book, choices):
                choices, lowest = cheaper, reserve
        return _bearable(book, choices, lowest, highest)


def _bearable(book: Book, choices: Integers, lowest: Integers, highest: Integers) -> Integers:
    """The highest prices on the line from *lowest* to *highest* at which everybody can pay for its choice."""
    liquid = book.of_choices(book.liquid, choices)
    low, high = 0, 1 << 20
    while low < high:
        middle = (low + high + 1) // 2
        prices = _between(lowest, highest, middle)
        if (book.of_choices(book.cost(prices), choices) <= liquid).all():
            low = middle
        else:
            high = middle - 1
    return _between(lowest, highest, low)


def _between(lowest: Integers, highest: Integers, part: int) -> Integers:
    return lowest + ((highest - lowest) * part >> 20)


def _outcome(case: Case, book: Book, choices: Integers, published: Integers, target: Floats) -> Outcome:
    costs = book.cost(published)
    payments = book.of_choices(costs, choices).tolist()
    wishes = np.where(book.possible(costs), book.value - costs, -1).argmax(axis=1).tolist()
    awards: dict[str, Award] = {}
    nothing = Point(case.goods.nothing, 0)
    for tenant, choice, wish, payment in zip(case.tenants, choices.tolist(), wishes, payments, strict=True):
        given = tenant.menu.points[choice - 1] if choice else nothing
        desired = tenant.menu.points[wish - 1] if wish else nothing
        awards[tenant.name] = Award(given.quanta, given.value, payment, desired.quanta)
    prices = tuple(published.tolist())
    return Outcome(awards, prices, Carry(published=prices, clearing=tuple(target.tolist())))


@dataclass(frozen=True)
class Priorities:
    """The credits mode, for applications of one owner: the market's allocation, by priority instead of money.

    A menu's values only compare its own points: the best counts as the tenant's weight, the others in proportion.
    Nobody pays, no budget binds, and the published prices are a measure of scarcity: a thousand credits for each unit
    of weight.
    """

    market: Market = field(default_factory=Market)
    name: str = "priorities"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        inner = self.market.clear(replace(case, tenants=tuple(_weighed(tenant) for tenant in case.tenants)))
        worth = {t.name: {p.quanta: p.value for p in t.menu.points} for t in case.tenants}
        awards = {
            name: replace(award, value=worth[name].get(award.quanta, 0), payment=0)
            for name, award in inner.awards.items()
        }
        return replace(inner, awards=awards)


def _weighed(tenant: Tenant) -> Tenant:
    best = max((point.value for point in tenant.menu.points), default=1)
    scale = tenant.weight * MICRO * (MAX_RATE // (MAX_WEIGHT * MICRO))
    points = tuple(Point(point.quanta, max(1, point.value * scale // best)) for point in tenant.menu.points)
    switching_cost = min(MAX_RATE, tenant.menu.switching_cost * scale // best)
    return replace(tenant, menu=Menu(points, switching_cost), spend=MAX_RATE, lock=None)
