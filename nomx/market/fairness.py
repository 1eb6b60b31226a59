"""Allocators without prices, for fairness over several resources or over time: dominant-resource fairness, Karma.

Baselines of the market, behind the interface of `nomx.market.policy`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from nomx.market.money import MICRO, Quanta, fits, minus, plus
from nomx.market.policy import Case, Outcome, Tenant, favourite, serve, unpriced


@dataclass(frozen=True)
class DominantResource:
    """Dominant-resource fairness: whoever has the smallest dominant share, by weight, takes the next step up.

    A step is the tenant's next larger point that it values more than the one it has; who cannot take one
    is done. The paper's tasks of one size are replaced by menus, so its proofs (envy-freeness, strategy-proofness)
    hold here only for menus that are multiples of one bundle.
    Source: Ghodsi et al., "Dominant Resource Fairness: Fair Allocation of Multiple Resource Types" (NSDI 2011),
    algorithm 1.
    """

    name: str = "drf"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        choices = [-1] * len(case.tenants)
        ladders = [_ladder(tenant, case.supply) for tenant in case.tenants]
        left = case.supply
        waiting = [(0.0, place) for place in range(len(case.tenants))]
        while waiting:
            _, place = heapq.heappop(waiting)
            points = case.tenants[place].menu.points
            free = plus(left, points[choices[place]].quanta) if choices[place] >= 0 else left
            while ladders[place]:
                share, index = ladders[place].pop()
                if fits(points[index].quanta, free):
                    choices[place] = index
                    left = minus(free, points[index].quanta)
                    heapq.heappush(waiting, (share, place))
                    break
        return unpriced(case, case.tenants, choices)


def _ladder(tenant: Tenant, supply: Quanta) -> list[tuple[float, int]]:
    """The points by dominant share over weight, each worth more than the one before; the next step up is the last."""
    rungs: list[tuple[float, int]] = []
    worth = 0
    for share, value, index in sorted(
        (_dominant_share(p.quanta, supply) / tenant.weight, -p.value, i) for i, p in enumerate(tenant.menu.points)
    ):
        if -value > worth:
            rungs.append((share, index))
            worth = -value
    return rungs[::-1]


def _dominant_share(quanta: Quanta, supply: Quanta) -> float:
    """The largest share of any resource in a bundle; infinite where there is none of what it needs."""
    return max(q / s if s else float("inf") for q, s in zip(quanta, supply, strict=True) if q)


SLICES = 4096
"""Karma lends a resource in at most about this many slices a period, to bound its time."""


@dataclass(frozen=True)
class Karma:
    """Karma: shares of each resource, of which those not needed are lent for credits that buy more later.

    Each tenant is guaranteed *alpha* of its equal share. What it does not want of that it donates, and earns a credit
    for each quantum lent; the rest of the supply is everybody's. Who wants more than its guarantee borrows for
    credits, richest first. The paper has one resource; here each has its own credits, a tenant takes its best
    point within what it got of each, and what is left over goes by seniority.
    Source: Vuppalapati et al., "Karma: Resource Allocation for Dynamic Demands" (OSDI 2023), algorithm 1.
    """

    alpha: float = 0.5
    first_credits: int = 100
    """Periods of a full share that the first tenants can borrow with nothing earned."""
    name: str = "karma"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period."""
        tenants = case.tenants
        wants = [favourite(tenant, case.goods.nothing) for tenant in tenants]
        wealth = self._wealth(case)
        lent = [
            _lend(s, [w[r] for w in wants], wealth[r], int(self.alpha * s / len(tenants))) if tenants else []
            for r, s in enumerate(case.supply)
        ]
        wishes = [tenant.menu.by_value for tenant in tenants]
        within = serve(tenants, wishes, case.supply, list(zip(*lent, strict=True)))
        kept = {tenant.name: tuple(column[place] for column in wealth) for place, tenant in enumerate(tenants)}
        return unpriced(case, tenants, serve(tenants, wishes, case.supply, choices=within), kept)

    def _wealth(self, case: Case) -> list[list[int]]:
        """Each resource's credits by tenant, this period's free ones added; newcomers start with the mean."""
        known = case.carry.credits
        present = [known[t.name] for t in case.tenants if t.name in known]
        count = max(1, len(case.tenants))
        free = [s * MICRO // count - int(self.alpha * s / count) * MICRO for s in case.supply]
        start = [self.first_credits * s * MICRO // count for s in case.supply]
        if present:
            start = [sum(column) // len(present) for column in zip(*present, strict=True)]
        return [[known.get(t.name, start)[r] + free[r] for t in case.tenants] for r in range(len(case.supply))]


def _lend(supply: int, wants: Sequence[int], wealth: list[int], guarantee: int) -> list[int]:
    """Share one resource's *supply* by *wealth*, the credits that it moves from borrower to lender."""
    shares = [min(want, guarantee) for want in wants]
    donors = [(wealth[i], i) for i, want in enumerate(wants) if want < guarantee]
    borrowers = [(-wealth[i], i) for i, want in enumerate(wants) if want > guarantee]
    heapq.heapify(donors)
    heapq.heapify(borrowers)
    donated = {i: guarantee - wants[i] for _, i in donors}
    common = supply - guarantee * len(wants)
    size = max(1, supply // SLICES)
    while borrowers and (donors or common):
        borrower = heapq.heappop(borrowers)[1]
        lender = donors[0][1] if donors else -1
        count = min(
            size, wants[borrower] - shares[borrower], donated[lender] if donors else common, wealth[borrower] // MICRO
        )
        if count == 0:
            continue
        if lender >= 0:
            donated[lender] -= count
            wealth[lender] += count * MICRO
            heapq.heapreplace(donors, (wealth[lender], lender)) if donated[lender] else heapq.heappop(donors)
        else:
            common -= count
        shares[borrower] += count
        wealth[borrower] -= count * MICRO
        if shares[borrower] < wants[borrower]:
            heapq.heappush(borrowers, (-wealth[borrower], borrower))
    return shares
