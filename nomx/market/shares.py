"""Allocators without prices that go by shares and queues: static shares, first come first served, weighted shares.

Baselines of the market, behind the interface of `nomx.market.policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from nomx.market.money import Quanta, fits, plus
from nomx.market.policy import Case, Outcome, Tenant, favourite, serve, unpriced


@dataclass(frozen=True)
class StaticShares:
    """Each tenant owns its weight's share of every resource, used or not, as with fixed instances or partitions."""

    name: str = "static"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        total = sum(tenant.weight for tenant in case.tenants)
        room = [tuple(supply * t.weight // total for supply in case.supply) for t in case.tenants]
        wishes = [tenant.menu.by_value for tenant in case.tenants]
        return unpriced(case, case.tenants, serve(case.tenants, wishes, case.supply, room))


@dataclass(frozen=True)
class FirstCome:
    """First come, first served: nothing is ever taken from a holder, the rest goes by seniority.

    As cluster queues and every cloud's on-demand instances do it.
    """

    name: str = "first-come"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        queue = sorted(case.tenants, key=lambda tenant: _held(tenant) < 0)
        wishes = [tenant.menu.by_value for tenant in queue]
        kept = [_held(tenant) for tenant in queue]
        if not fits(_total(queue, kept, case.goods.nothing), case.supply):
            kept = serve(queue, [[index] if index >= 0 else [] for index in kept], case.supply)
        return unpriced(case, queue, serve(queue, wishes, case.supply, choices=kept))


def _held(tenant: Tenant) -> int:
    """The index of the point held, -1 if it is not on the menu (any more)."""
    return next((i for i, point in enumerate(tenant.menu.points) if point.quanta == tenant.holding), -1)


def _total(tenants: list[Tenant], choices: list[int], nothing: Quanta) -> Quanta:
    held = (t.menu.points[index].quanta for t, index in zip(tenants, choices, strict=True) if index >= 0)
    return reduce(plus, held, nothing)


@dataclass(frozen=True)
class WeightedShares:
    """Weighted proportional shares: each resource by itself is shared in proportion to weight among those who want it.

    What one does not want goes to the others (weighted max-min). A tenant then takes its best point
    within its shares, and what is left over goes by weight.
    Source: Waldspurger and Weihl, "Lottery Scheduling: Flexible Proportional-Share Resource Management" (OSDI 1994);
    Bertsekas and Gallager, "Data Networks", 6.5.2, for max-min fairness.
    """

    name: str = "weighted"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        tenants = sorted(case.tenants, key=lambda tenant: -tenant.weight)
        wishes = [tenant.menu.by_value for tenant in tenants]
        wants = [favourite(tenant, case.goods.nothing) for tenant in tenants]
        weights = [tenant.weight for tenant in tenants]
        shares = [max_min(s, [want[r] for want in wants], weights) for r, s in enumerate(case.supply)]
        within = serve(tenants, wishes, case.supply, list(zip(*shares, strict=True)))
        return unpriced(case, tenants, serve(tenants, wishes, case.supply, choices=within))


def max_min(supply: int, wants: list[int], weights: list[int]) -> list[int]:
    """Share *supply* quanta by weighted max-min fairness; quanta that do not divide go in the order of the lists."""
    shares = [0] * len(wants)
    open_ = [i for i, want in enumerate(wants) if want]
    while open_:
        total = sum(weights[i] for i in open_)
        content = [i for i in open_ if wants[i] * total <= supply * weights[i]]
        if not content:
            for i in open_:
                shares[i] = supply * weights[i] // total
            rest = supply - sum(shares[i] for i in open_)
            for i in open_[:rest]:
                shares[i] += 1
            break
        for i in content:
            shares[i] = wants[i]
        supply -= sum(wants[i] for i in content)
        open_ = [i for i in open_ if shares[i] == 0]
    return shares
