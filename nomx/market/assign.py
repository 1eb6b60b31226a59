"""Who gets what: greedy and upgrade passes over all tenants, then a bounded search over the undecided; for clearing."""

from __future__ import annotations

from itertools import accumulate
from operator import mul, sub

import numpy as np

from nomx.market.book import Book, Flags, Floats, Integers
from nomx.market.policy import serve

UPGRADE_PASSES = 2

CORE = 12
"""How many tenants the search decides anew: all of them, where there are no more."""

MAX_NODES = 1200
"""Where the search stops and keeps the best allocation found: a few milliseconds. Five times as many gained synthetic
tenants 0.2 % of welfare."""

WORTH_A_SEARCH = 500
"""The search passes over whatever cannot gain one part in this of the whole welfare."""


def allocate(book: Book, possible: Flags, prices: Floats) -> Integers:
    """Choose a *possible* choice for each tenant within the supply, aiming at the highest `worth`; shape (N,).

    *prices* say how scarce each resource is. Greedy decides clear cases well. What it gets wrong is which of several
    big bundles goes with which small ones, so the search goes over those tenants again whom the prices leave
    undecided: a large-neighbourhood search with one neighbourhood.
    Source: Balas and Zemel, "An Algorithm for Large Zero-One Knapsack Problems" (Operations Research 1980), for the
    core; Pisinger and Ropke, "Large Neighborhood Search" (Handbook of Metaheuristics, 2010).
    """
    gain = gains(book, possible, prices)
    choices = greedy(book, gain)
    core = undecided(gain, choices)
    others = choices.copy()
    others[core] = 0
    search = _Search(book.supply - book.demand(others), prices)
    by_worth = core[np.argsort(-np.where(np.isfinite(gain[core]), book.liquid[core], 0).max(axis=1), kind="stable")]
    for row in by_worth.tolist():
        search.add(book.liquid[row] + book.stay[row], book.quanta[row], np.isfinite(gain[row]), int(choices[row]))
    others[by_worth] = search.run(least_gain=worth(book, choices) // WORTH_A_SEARCH)
    return others


def gains(book: Book, possible: Flags, prices: Floats) -> Floats:
    """What each choice is worth beyond its cost at *prices*; -inf where it is not possible; shape (N, CHOICES)."""
    gain = book.liquid + book.stay - (book.quanta_flat @ prices).reshape(book.liquid.shape)
    return np.where(possible, gain, -np.inf)


def greedy(book: Book, gain: Floats) -> Integers:
    """Tenants by gain for each share of the supply they ask for; each takes its best that fits; then they trade up.

    Ties go by seniority, never by name. A possible point that gains nothing is better used than idle, and comes last.
    """
    points = gain[:, 1:]
    count = np.isfinite(points).sum(axis=1)
    wishes = np.argsort(-points, axis=1, kind="stable")
    first = wishes[:, 0] + 1
    share = (book.quanta[np.arange(len(first)), first] / np.maximum(book.supply, 1)).sum(axis=1)
    density = np.where(count > 0, points.max(axis=1) / np.maximum(share, 1e-300), -np.inf)
    order = [row for row in np.argsort(-density, kind="stable").tolist() if count[row]]
    listed = wishes.tolist()
    wanted = [listed[row][: count[row]] for row in order]
    tenants = [book.tenants[row] for row in order]
    supply = tuple(book.supply.tolist())
    taken = serve(tenants, wanted, supply)
    for _ in range(UPGRADE_PASSES):
        taken = serve(tenants, wanted, supply, choices=taken)
    choices = np.zeros(len(book.tenants), dtype=np.int64)
    choices[order] = np.array(taken, dtype=np.int64) + 1
    return choices


def trade_up(book: Book, possible: Flags, costs: Integers, choices: Integers) -> Integers:
    """Let each tenant, by seniority, take the point it likes best of what is left over, at no loss of `worth`.

    Budgets make this matter: points that a tenant values differently, but both above what it can pay, are worth the
    same to the market, and not to the tenant.
    """
    worths = book.liquid + book.stay
    open_to = possible & (worths >= book.of_choices(worths, choices)[:, None])
    open_to[np.arange(len(choices)), choices] = True
    gain = np.where(open_to, (book.value + book.stay - costs).astype(np.float64), -np.inf)
    movers = np.flatnonzero(gain.argmax(axis=1) != choices)
    if not len(movers):
        return choices
    staying = choices.copy()
    staying[movers] = 0
    left = tuple((book.supply - book.demand(staying)).tolist())
    wishes = [
        [c - 1 for c in np.argsort(-gain[row], kind="stable").tolist() if c and open_to[row, c]] for row in movers
    ]
    taken = serve([book.tenants[row] for row in movers], wishes, left, choices=(choices[movers] - 1).tolist())
    staying[movers] = np.array(taken, dtype=np.int64) + 1
    return staying


def undecided(gain: Floats, choices: Integers) -> Integers:
    """The rows of the CORE most doubtful tenants: without their favourite, or with a second choice as good."""
    ranked = np.sort(gain, axis=1)
    doubt = np.where(gain.argmax(axis=1) == choices, ranked[:, -1] - ranked[:, -2], 0.0)
    rows = np.argsort(doubt, kind="stable")
    return rows[np.isfinite(doubt[rows])][:CORE]


def worth(book: Book, choices: Integers) -> int:
    """What the market maximises: liquid welfare and the switching costs saved, in micro-credits a second."""
    return int(book.of_choices(book.liquid + book.stay, choices).sum())


class _Search:
    """The best choices of some tenants within what is *left*, by branch and bound over at most MAX_NODES nodes.

    A branch is cut, where even selling what is left at *prices* (the dual bound) would not gain enough.
    Source: Land and Doig, "An Automatic Method of Solving Discrete Programming Problems" (Econometrica 1960).
    """

    def __init__(self, left: Integers, prices: Floats) -> None:
        self.left: list[int] = left.tolist()
        self.prices: list[int] = np.floor(prices).astype(np.int64).tolist()
        self.options: list[list[tuple[int, int, list[int], int]]] = []
        """For each tenant (gain at the prices, worth, bundle, choice) of what it may choose, the highest gain first."""
        self.chosen: list[int] = []
        """The best found, as the tenants were added; and what it is worth."""
        self.best = 0
        self.least_gain = 0
        self.ahead: list[int] = []
        """By depth, the gain at the prices of all tenants from there on, if each had its favourite."""
        self.path: list[int] = []
        self.nodes = 0

    def add(self, worths: Integers, quanta: Integers, real: Flags, chosen: int) -> None:
        """Add a tenant with its choices, of which it has *chosen* so far."""
        options = []
        for choice in np.flatnonzero(real).tolist():
            bundle, value = quanta[choice].tolist(), int(worths[choice])
            options.append((value - self._cost(bundle), value, bundle, choice))
        self.options.append(sorted(options, key=lambda option: -option[0]))
        self.chosen.append(chosen)
        self.best += int(worths[chosen])

    def run(self, least_gain: int) -> list[int]:
        """The best choices found, in the order in which the tenants were added."""
        self.least_gain = least_gain
        favourites = [options[0][0] for options in self.options]
        self.ahead = [*accumulate(reversed(favourites), initial=0)][::-1]
        self.path = [0] * len(self.options)
        self._descend(0, 0, self.left, self._cost(self.left))
        return self.chosen

    def _cost(self, bundle: list[int]) -> int:
        return sum(map(mul, self.prices, bundle))

    def _descend(self, depth: int, gained: int, left: list[int], resale: int) -> None:
        self.nodes += 1
        if depth == len(self.options):
            if gained > self.best:
                self.best, self.chosen = gained, list(self.path)
            return
        slack = gained + resale + self.ahead[depth + 1] - self.best - self.least_gain
        for gain, worth, bundle, choice in self.options[depth]:
            if slack + gain <= 0 or self.nodes >= MAX_NODES:
                return
            rest = list(map(sub, left, bundle))
            if min(rest) >= 0:
                self.path[depth] = choice
                best = self.best
                self._descend(depth + 1, gained + worth, rest, resale + gain - worth)
                slack -= self.best - best
