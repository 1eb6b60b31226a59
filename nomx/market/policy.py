"""The one interface of all allocators: a Case goes in, an Outcome comes out; between the exchange and each policy.

A policy decides once a period who is promised what above the floors. It is a frozen value of settings
without memory: what must outlive the period goes into the Outcome's Carry and comes back with the next Case, so that
the daemon can journal it, and equal input gives equal output. Tenants are told apart by seniority
(the order in which they were admitted), never by what they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from nomx.errors import InvalidRequest
from nomx.market.bids import Menu
from nomx.market.budget import PriceLock
from nomx.market.money import MAX_RATE, Goods, Prices, Quanta, cost, fits, lesser, minus, plus

MAX_WEIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant, as a policy sees it."""

    name: str
    seniority: int
    """Unique; the lower, the earlier admitted. Breaks every tie."""
    menu: Menu
    holding: Quanta
    """What it was promised above its floor in the period before."""
    spend: int = MAX_RATE
    """The most it may pay for its bundle, in micro-credits a second."""
    weight: int = 1
    """Its share or priority, 1 to MAX_WEIGHT, where the policy knows such a thing."""
    lock: PriceLock | None = None

    def cost(self, prices: Prices, quanta: Quanta) -> int:
        """What *quanta* costs this tenant at published *prices*, in micro-credits a second."""
        return self.lock.cost(prices, quanta) if self.lock else cost(prices, quanta)


@dataclass(frozen=True, slots=True)
class Carry:
    """What a policy remembers from period to period."""

    published: Prices = ()
    """The prices of the last period; empty before the first."""
    clearing: tuple[float, ...] = ()
    """The market's price before smoothing, in micro-credits a quantum and second."""
    credits: Mapping[str, Quanta] = field(default_factory=dict)
    """Karma: a tenant's credits of each resource, in millionths of a quantum."""


@dataclass(frozen=True, slots=True)
class Case:
    """The question of one period. Use `Case.of`, which sorts the tenants by seniority."""

    goods: Goods
    supply: Quanta
    """Capacity less all floors."""
    reserve: Prices
    """The lowest price of each resource; at least 1 where a policy charges."""
    tenants: tuple[Tenant, ...]
    carry: Carry = Carry()

    @classmethod
    def of(
        cls, goods: Goods, supply: Quanta, reserve: Prices, tenants: Iterable[Tenant], carry: Carry | None = None
    ) -> Case:
        """Make a case, whatever order the tenants come in.

        Raises: InvalidRequest: two tenants have the same seniority.
        """
        ordered = tuple(sorted(tenants, key=lambda tenant: tenant.seniority))
        for before, after in pairwise(ordered):
            if before.seniority == after.seniority:
                raise InvalidRequest(
                    field="seniority", value=after.seniority, expected=f"a number that {before.name} has not"
                )
        return cls(goods, supply, reserve, ordered, carry or Carry())


@dataclass(frozen=True, slots=True)
class Award:
    """What one tenant is promised for the period."""

    quanta: Quanta
    value: int = 0
    """What the tenant said this is worth, in micro-credits a second."""
    payment: int = 0
    """What it pays, in micro-credits a second: never above *value* or what it may spend."""
    desired: Quanta = ()
    """What it would have taken, had there been enough."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer of one period: one award a tenant, and the prices everybody sees (zeros without money)."""

    awards: Mapping[str, Award]
    prices: Prices
    carry: Carry

    @property
    def welfare(self) -> int:
        """The sum of the values of what was awarded, in micro-credits a second."""
        return sum(award.value for award in self.awards.values())


class Policy(Protocol):
    """An allocator. *name* is what settings and scenarios call it; *charges* tells whether awards are paid for."""

    @property
    def name(self) -> str: ...

    @property
    def charges(self) -> bool: ...

    def clear(self, case: Case) -> Outcome:
        """Decide one period. The sum of the awards never exceeds *case.supply* in any resource.

        Raises: NotSupported: the case is beyond what the policy can do (the exact optimum of many tenants).
        """


def favourite(tenant: Tenant, nothing: Quanta) -> Quanta:
    """The bundle a tenant asks for where nothing has a price and it may name only one."""
    return tenant.menu.points[tenant.menu.by_value[0]].quanta if tenant.menu.points else nothing


def serve(
    tenants: Sequence[Tenant],
    wishes: Sequence[Sequence[int]],
    supply: Quanta,
    room: Sequence[Quanta] | None = None,
    choices: Sequence[int] | None = None,
) -> list[int]:
    """Let each tenant, in the order of *tenants*, take the first point of its wish list that fits.

    A point fits, when it is within what nobody holds of *supply* and the tenant's own *room* (no limit by default).
    With *choices* from an earlier call, tenants trade up from there: nobody ends with a less wished-for point.

    Returns: the chosen index of each tenant, -1 for none.
    """
    chosen = list(choices) if choices is not None else [-1] * len(tenants)
    left = supply
    for tenant, index in zip(tenants, chosen, strict=True):
        left = minus(left, tenant.menu.points[index].quanta) if index >= 0 else left
    for place, (tenant, wish) in enumerate(zip(tenants, wishes, strict=True)):
        points, held = tenant.menu.points, chosen[place]
        free = plus(left, points[held].quanta) if held >= 0 else left
        limit = lesser(free, room[place]) if room is not None else free
        for index in wish:
            if index == held:
                break
            if fits(points[index].quanta, limit):
                chosen[place] = index
                left = minus(free, points[index].quanta)
                break
    return chosen


def unpriced(
    case: Case, tenants: Sequence[Tenant], choices: Sequence[int], wealth: Mapping[str, Quanta] | None = None
) -> Outcome:
    """The outcome of a policy without money, from one chosen index (-1: none) a tenant."""
    nothing = case.goods.nothing
    awards: dict[str, Award] = {}
    for tenant, index in zip(tenants, choices, strict=True):
        desired = favourite(tenant, nothing)
        given = tenant.menu.points[index] if index >= 0 else None
        awards[tenant.name] = Award(given.quanta, given.value, 0, desired) if given else Award(nothing, desired=desired)
    return Outcome(awards, nothing, Carry(credits=wealth or {}))
