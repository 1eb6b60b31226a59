"""The order book of one period as arrays: what clearing computes on; made from a Case, thrown away after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nomx.market.bids import MAX_POINTS
from nomx.market.policy import Case, Tenant

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CHOICES = MAX_POINTS + 1
"""Choice 0 is nothing beyond the floor; choice k is the menu's point k - 1."""

IMPOSSIBLE = -1
"""The liquid value of a point that no price makes possible: its bundle exceeds the supply."""


@dataclass(frozen=True)
class Book:
    """The menus of N tenants, by seniority, over R resources; all rates in micro-credits a second.

    Values count as far as there is money behind them (*liquid* = min(value, spend)): a point can
    be had at a price if, and only if, its cost is at most its liquid value. Welfare in
    liquid values is the measure that a market with budgets can hope to optimise.
    Source: Dobzinski and Paes Leme, "Efficiency Guarantees in Auctions with Budgets" (ICALP 2014).
    """

    tenants: tuple[Tenant, ...]
    supply: Integers
    """(R,)"""
    quanta: Integers
    """(N, CHOICES, R)"""
    value: Integers
    """(N, CHOICES)"""
    liquid: Integers
    """(N, CHOICES)"""
    stay: Integers
    """(N, CHOICES): the switching cost at the choice held, 0 elsewhere."""
    held: Integers
    """(N,): the choice held, 0 where it is nothing or no longer on the menu."""
    locked: tuple[Integers, Integers] | None
    """Price locks: prices and quanta, both (N, 1, R); None where no tenant has one."""

    @classmethod
    def of(cls, case: Case) -> Book:
        count, width = len(case.tenants), len(case.supply)
        empty = (0,) * (CHOICES * width)
        supply = np.array(case.supply, dtype=np.int64)
        quanta = np.array([t.menu.table or empty for t in case.tenants], dtype=np.int64).reshape(count, CHOICES, width)
        value = np.array([t.menu.worth for t in case.tenants], dtype=np.int64).reshape(count, CHOICES)
        spend = np.array([t.spend for t in case.tenants], dtype=np.int64)
        liquid = np.minimum(value, spend[:, None])
        liquid[(quanta > supply).any(axis=2)] = IMPOSSIBLE
        held = np.zeros(count, dtype=np.int64)
        stay = np.zeros((count, CHOICES), dtype=np.int64)
        for row, tenant in enumerate(case.tenants):
            for choice, point in enumerate(tenant.menu.points, start=1):
                if point.quanta == tenant.holding:
                    held[row] = choice
                    stay[row, choice] = tenant.menu.stay(point)
        return cls(case.tenants, supply, quanta, value, liquid, stay, held, _locks(case))

    @cached_property
    def quanta_flat(self) -> Floats:
        """`quanta` as (N * CHOICES, R) floats, for the descent."""
        return self.quanta.reshape(-1, len(self.supply)).astype(np.float64)

    def cost(self, prices: Integers) -> Integers:
        """What each choice costs its tenant at published *prices*, price locks included; shape (N, CHOICES), exact."""
        costs: Integers = self.quanta @ prices
        if self.locked is not None:
            locked, covered = self.locked
            costs -= (np.minimum(self.quanta, covered) * np.maximum(0, prices - locked)).sum(axis=2)
        return costs

    def possible(self, costs: Integers) -> Flags:
        """Which choices cost no more than they are worth and the tenant may spend; nothing is always possible."""
        possible: Flags = (costs <= self.liquid) & (self.value > 0)
        possible[:, 0] = True
        return possible

    def demand(self, choices: Integers) -> Integers:
        """The quanta of each resource in *choices* (N,), summed over the tenants."""
        total: Integers = self.quanta[np.arange(len(choices)), choices].sum(axis=0)
        return total

    def of_choices(self, table: Integers, choices: Integers) -> Integers:
        """The entry of *table* (N, CHOICES) at each tenant's choice; shape (N,)."""
        return table[np.arange(len(choices)), choices]


def _locks(case: Case) -> tuple[Integers, Integers] | None:
    if all(tenant.lock is None for tenant in case.tenants):
        return None
    nothing = case.goods.nothing
    prices = [t.lock.prices if t.lock else nothing for t in case.tenants]
    quanta = [t.lock.quanta if t.lock else nothing for t in case.tenants]
    return np.array(prices, dtype=np.int64)[:, None, :], np.array(quanta, dtype=np.int64)[:, None, :]
