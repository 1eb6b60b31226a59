"""Markets for property tests: hypothesis strategies for menus and cases, small enough to check by enumeration."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from nomx.market.bids import MAX_POINTS, Menu, Point
from nomx.market.budget import PriceLock
from nomx.market.money import MAX_RATE, Goods, Prices, Quanta, Resource
from nomx.market.policy import Case, Tenant

TWO_GOODS = Goods((Resource("cores", "core"), Resource("memory", "GiB", 4)))
RESERVE: Prices = (1, 1)
"""Reserve prices of the small cases: low enough never to matter."""

fewer_examples = settings(max_examples=max(10, settings().max_examples // 4))
"""For properties that take many clearings each to check."""


def bundles(most: int) -> st.SearchStrategy[Quanta]:
    """Bundles of TWO_GOODS that are not empty."""
    return st.tuples(st.integers(0, most), st.integers(0, most)).filter(any)


def values(most: int = 10**9) -> st.SearchStrategy[int]:
    """Values a second, of every order of magnitude that a reserve price of 1 does not rule out."""
    return st.integers(2, len(str(most)) - 1).flatmap(lambda digits: st.integers(10**digits, 10 ** (digits + 1)))


@st.composite
def menus(draw: st.DrawFn, most: int = 12, points: int = MAX_POINTS) -> Menu:
    """Menus of any form: steps, complements, points that cost more and are worth less."""
    chosen = draw(st.lists(bundles(most), max_size=points, unique=True))
    return Menu(tuple(Point(quanta, draw(values())) for quanta in chosen), draw(st.sampled_from((0, 10, 10**6))))


@st.composite
def cases(
    draw: st.DrawFn,
    tenants: int = 5,
    points: int = MAX_POINTS,
    budgets: bool = True,
    locks: bool = True,
    held: bool = True,
) -> Case:
    """Cases of up to *tenants* tenants over TWO_GOODS, with or without budgets, price locks and holdings."""
    supply = draw(st.tuples(st.integers(0, 14), st.integers(0, 14)))
    listed = []
    for number in range(draw(st.integers(0, tenants))):
        tenant = Tenant(f"t{number}", number, draw(menus(points=points)), (0, 0), weight=draw(st.integers(1, 5)))
        if budgets and draw(st.booleans()):
            tenant = replace(tenant, spend=draw(st.one_of(st.just(0), values())))
        if locks and draw(st.booleans()):
            prices = draw(st.tuples(values(10**6), values(10**6)))
            tenant = replace(tenant, lock=PriceLock(prices, draw(bundles(12)), until_ns=1))
        listed.append(tenant)
    return (
        _holding(draw, Case.of(TWO_GOODS, supply, RESERVE, listed))
        if held
        else Case.of(TWO_GOODS, supply, RESERVE, listed)
    )


def _holding(draw: st.DrawFn, case: Case) -> Case:
    """Let some tenants hold a point, all together no more than the supply."""
    left, tenants = list(case.supply), []
    for tenant in case.tenants:
        options = [
            p.quanta for p in tenant.menu.points if all(q <= free for q, free in zip(p.quanta, left, strict=True))
        ]
        holding = draw(st.sampled_from([*options, (0, 0)]))
        left = [free - q for free, q in zip(left, holding, strict=True)]
        tenants.append(replace(tenant, holding=holding))
    return replace(case, tenants=tuple(tenants))


def scaled(case: Case, factor: int) -> Case:
    """The case with every amount of money times *factor*."""
    tenants = tuple(
        replace(
            tenant,
            menu=replace(tenant.menu, points=tuple(Point(p.quanta, p.value * factor) for p in tenant.menu.points)),
            spend=min(MAX_RATE, tenant.spend * factor),
        )
        for tenant in case.tenants
    )
    return replace(case, tenants=tenants, reserve=tuple(price * factor for price in case.reserve))
