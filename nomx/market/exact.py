"""The exact optimum by enumeration: the yardstick of the other policies on small cases; vectorised, no clever step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nomx.errors import NotSupported
from nomx.market.policy import Case, Outcome, unpriced

MAX_COMBINATIONS = 1 << 20


@dataclass(frozen=True)
class Exact:
    """The allocation of the highest declared value, found by trying every combination of points; nobody pays.

    Good for 5 tenants with full menus. Among equals the one where senior tenants have the points listed first.
    """

    name: str = "exact"
    charges: bool = False

    def clear(self, case: Case) -> Outcome:
        """Decide one period.

        Raises: NotSupported: more than MAX_COMBINATIONS combinations.
        """
        sizes = [len(tenant.menu.points) + 1 for tenant in case.tenants]
        count = np.prod(np.array(sizes, dtype=np.float64))
        if count > MAX_COMBINATIONS:
            raise NotSupported(
                feature="the exact optimum",
                missing=f"{len(sizes)} tenants make {count:.0e} combinations, of at most {MAX_COMBINATIONS:,}",
                remedy="use the policy market, or fewer tenants",
            )
        supply = np.array(case.supply, dtype=np.int64)
        value = np.zeros(1, dtype=np.int64)
        used = np.zeros((1, len(supply)), dtype=np.int64)
        for tenant in case.tenants:
            value = np.add.outer(value, np.array([p.value for p in tenant.menu.points] + [0], dtype=np.int64)).ravel()
            rows = np.array([p.quanta for p in tenant.menu.points] + [case.goods.nothing], dtype=np.int64)
            used = (used[:, None, :] + rows[None, :, :]).reshape(-1, len(supply))
        best = int(np.argmax(np.where((used <= supply).all(axis=1), value, -1)))
        choices = np.unravel_index(best, sizes) if sizes else ()
        picked = [-1 if index == size - 1 else int(index) for index, size in zip(choices, sizes, strict=True)]
        return unpriced(case, case.tenants, picked)
