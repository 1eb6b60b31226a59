"""Prices of one period: dual descent to where demand meets supply, and smoothing of what is published; for clearing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nomx.market.book import Book, Floats, Integers
from nomx.market.money import MAX_RATE

STEPS = 40
"""Descent steps a period at most. The next period goes on from the best prices found."""

COLD_STEP, WARM_STEP = 0.4, 0.1
"""How far the first step moves a price, on a logarithmic scale (base e): from a guess, and from the last prices."""

GROW, SHRINK = 1.2, 0.5
LONGEST_STEP, SHORTEST_STEP = 0.7, 1e-4
"""A step grows while its price goes one way and shrinks when it turns; below the shortest the descent ends."""


def dual(book: Book, prices: Floats) -> tuple[float, Integers]:
    """The Lagrangian dual at *prices*, and each tenant's favourite choice there.

    The dual is what everybody gains together if each buys its favourite and the supply is sold out: an upper bound
    on the liquid welfare of every allocation, whatever the prices. It is convex in them, with supply less demand as a
    subgradient. Source: Boyd and Vandenberghe, "Convex Optimization" (2004), section 5.1; for when the bound is
    reached, Bikhchandani and Mamer, "Competitive Equilibrium in an Exchange Economy with Indivisibilities" (J.
    Economic Theory 1997).
    """
    surplus = book.liquid - (book.quanta_flat @ prices).reshape(book.liquid.shape)
    choices = surplus.argmax(axis=1)
    return float(surplus.max(axis=1).sum() + prices @ book.supply), choices


def descend(book: Book, start: Floats, lowest: Floats, first_step: float, steps: int = STEPS) -> tuple[Floats, float]:
    """Walk down the dual from *start*: prices of what is short rise, all others fall.

    Each price has its own step, and only the sign of its excess demand counts (resilient propagation). So scaling
    all values scales all prices, and one absurd bid moves no price further than a modest one. On
    synthetic tenants 40 such steps end within 0.3 % of the optimum, where 40 steps in proportion to the excess ended
    up to 8 % above it. Where many prices clear the market the lowest are looked for: they leave least to gain by
    a lower bid. Best prices are replaced for a millionth of the dual at least, or a thousandth of the supply's price at
    the same dual, so unchanged bids let them rest.

    Returns: the best prices met, none below *lowest*, and the dual there.
    Source: Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm"
    (ICNN 1993); Ausubel and Milgrom, "The Lovely but Lonely Vickrey Auction" (in Combinatorial Auctions, 2006), on
    low prices and truthfulness.
    """
    prices = np.maximum(start, lowest)
    stride = np.full(len(prices), first_step)
    heading = np.zeros(len(prices))
    best, least = prices, np.inf
    for _ in range(steps):
        bound, choices = dual(book, prices)
        cheaper = bound <= least * (1 + 1e-9) and prices @ book.supply < best @ book.supply * (1 - 1e-3)
        if bound < least * (1 - 1e-6) or cheaper:
            best, least = prices, min(bound, least)
        turned = np.where(book.demand(choices) > book.supply, 1.0, -1.0)
        stride = stride * np.where(turned * heading > 0, GROW, np.where(turned * heading < 0, SHRINK, 1.0))
        stride = np.minimum(stride, LONGEST_STEP)
        moved = np.clip(prices * np.exp(stride * turned), lowest, MAX_RATE)
        if (np.abs(moved - prices) <= SHORTEST_STEP * prices).all():
            break
        prices, heading = moved, turned
    return best, least


def first_guess(book: Book) -> Floats:
    """Prices at which the supply costs about what all tenants together would pay, in equal parts for each resource."""
    worth = float(np.maximum(book.liquid.max(axis=1, initial=0), 0).sum())
    return worth / (len(book.supply) * np.maximum(book.supply, 1).astype(np.float64))


def clearing_prices(book: Book, last: Floats | None, reserve: Integers) -> Floats:
    """Where demand meets supply: the descent from the last period's, or from a first guess where that starts lower."""
    lowest = reserve.astype(np.float64)
    guess = np.maximum(first_guess(book), lowest)
    if last is None or dual(book, guess)[0] < dual(book, np.maximum(last, lowest))[0]:
        return descend(book, guess, lowest, COLD_STEP)[0]
    return descend(book, last, lowest, WARM_STEP)[0]


def welfare_bound(book: Book, steps: int = 200) -> float:
    """An upper bound on the liquid welfare of any allocation: the lowest dual found, with no reserve price."""
    free = np.full(len(book.supply), 1e-6)
    best, _ = descend(book, first_guess(book), free, COLD_STEP, steps)
    return descend(book, best, free, WARM_STEP, steps)[1]


@dataclass(frozen=True)
class Smoothing:
    """How the published price follows the price aimed at: up by degrees, down at once.

    A price that rises by degrees is one that tenants can answer. One that falls by degrees would only leave idle
    what somebody could have had: on simulated days it cost 1 % of welfare, and saved no change of holdings.
    """

    pull: float = 0.5
    """The part of the way up, on a logarithmic scale, that a price goes in a period."""
    slew: float = 0.25
    """The most it rises in a period, as a part of itself."""

    def publish(self, last: Integers, target: Integers) -> Integers:
        """The prices to publish after *last*, in whole micro-credits; *target* is 1 at least.

        Rounded down, as a price rounded up shuts out whoever bid exactly the price; still a price below its
        target rises by at least one micro-credit.
        """
        pulled = np.floor(last * (target / last) ** self.pull).astype(np.int64)
        highest = np.floor(last * (1 + self.slew)).astype(np.int64)
        published: Integers = np.minimum(target, np.maximum(np.minimum(pulled, highest), last + 1))
        return published
