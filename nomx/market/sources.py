"""Price sources: where published prices come from, one interface for all; between configuration and the bulletin board.

Fixed prices, schedules, replayed traces and the spot model are all the same thing once they are made: steps in time.
The market is the other kind: its prices are told to it period by period. A source that has nothing new to say keeps
its last prices and calls them stale.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from random import Random
from typing import Protocol

from nomx.errors import InvalidRequest
from nomx.market.money import MAX_RATE, SECOND_NS, Goods, Prices, micro_credits, whole


@dataclass(frozen=True, slots=True)
class Quote:
    """The prices in force, and whether their source has stopped talking."""

    prices: Prices
    stale: bool = False
    reason: str = ""
    """Why they are stale, for people."""


class PriceSource(Protocol):
    """Anything that tells prices by time."""

    def at(self, now_ns: int) -> Quote:
        """The prices in force at *now_ns*, counted from the source's start."""
        ...


@dataclass(frozen=True)
class Steps:
    """Prices that are known for all time: *prices[i]* from *times_ns[i]* on. Before the first step its prices hold."""

    times_ns: tuple[int, ...]
    prices: tuple[Prices, ...]
    end_ns: int | None = None
    """From here on the prices are stale; None: the last ones are meant to last."""

    def __post_init__(self) -> None:
        if not self.times_ns or len(self.times_ns) != len(self.prices):
            raise InvalidRequest(
                field="prices", value=len(self.prices), expected="one step at least, with a time for each"
            )
        if any(later <= earlier for earlier, later in pairwise(self.times_ns)):
            raise InvalidRequest(field="times", value=self.times_ns[:8], expected="times that rise from step to step")

    def at(self, now_ns: int) -> Quote:
        """The prices in force at *now_ns*."""
        prices = self.prices[max(0, bisect_right(self.times_ns, now_ns) - 1)]
        if self.end_ns is not None and now_ns >= self.end_ns:
            return Quote(prices, stale=True, reason="the trace has ended; its last prices hold")
        return Quote(prices)


def fixed(prices: Prices) -> Steps:
    """One price for ever."""
    return Steps((0,), (prices,))


def schedule(goods: Goods, steps: Sequence[tuple[float, Mapping[str, float]]]) -> Steps:
    """Prices by plan: (seconds from the start, credits a unit and second by resource name); others keep theirs, from 0.

    The nom paper's experiment is `[(0, {"bandwidth": 1}), (60, {"bandwidth": 10})]`.

    Raises: InvalidRequest: an unknown resource, a price out of bounds, times that do not rise.
    """
    times: list[int] = []
    prices: list[Prices] = []
    known: dict[str, int] = dict.fromkeys(goods.names, 0)
    for index, (seconds, changes) in enumerate(steps):
        known = known | _prices_of(goods, changes, f"steps[{index}]")
        times.append(_nanoseconds(seconds, f"steps[{index}].seconds"))
        prices.append(tuple(known.values()))
    return Steps(tuple(times), tuple(prices))


def trace(goods: Goods, rows: Iterable[str], speed: float = 1.0) -> Steps:
    """Replay prices from the lines of a CSV text: `seconds`, then resources by name in credits a unit and second.

    The first row names the columns; empty lines are passed over, and nothing is quoted. At *speed* 60 an hour of trace
    passes in a minute. The last row tells when the trace ends; from then on its prices are stale.

    Raises: InvalidRequest: a row is broken, or there is none; the line is named. Nothing of a broken trace is used.
    """
    if not 0 < speed <= 1e6:
        raise InvalidRequest(field="speed", value=speed, expected="a factor above 0, up to a million")
    lines = ((number, _fields(line)) for number, line in enumerate(rows, start=1) if line.strip())
    number, columns = next(lines, (1, []))
    if columns[:1] != ["seconds"] or len(columns) < 2 or len(set(columns)) < len(columns):
        raise InvalidRequest(field=f"line {number}", value=columns, expected="column names: seconds, then resources")
    steps = list(_rows(goods, lines, columns, speed))
    if not steps:
        raise InvalidRequest(field=f"line {number + 1}", value="the end of the trace", expected="a row of prices")
    times, prices = zip(*steps, strict=True)
    return Steps(times, prices, end_ns=times[-1])


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _rows(
    goods: Goods, lines: Iterable[tuple[int, list[str]]], columns: list[str], speed: float
) -> Iterator[tuple[int, Prices]]:
    known: dict[str, int] = dict.fromkeys(goods.names, 0)
    last_ns = -1
    for number, row in lines:
        where = f"line {number}"
        if len(row) != len(columns):
            raise InvalidRequest(field=where, value=row, expected=f"{len(columns)} fields: {', '.join(columns)}")
        at_ns = _nanoseconds(row[0], f"{where}, seconds", speed)
        if at_ns <= last_ns:
            raise InvalidRequest(field=f"{where}, seconds", value=row[0], expected="a time after the one before")
        last_ns = at_ns
        known = known | _prices_of(goods, dict(zip(columns[1:], row[1:], strict=True)), where)
        yield at_ns, tuple(known.values())


def _prices_of(goods: Goods, amounts: Mapping[str, float | str], where: str) -> dict[str, int]:
    """Read credits a unit and second as micro-credits a quantum and second."""
    quanta = {resource.name: resource.quanta_per_unit for resource in goods.resources}
    prices: dict[str, int] = {}
    for name, amount in amounts.items():
        if name not in quanta:
            raise InvalidRequest(
                field=f"{where}, {name}", value="this resource", expected=f"one of {', '.join(quanta)}"
            )
        prices[name] = micro_credits(amount, f"{where}, {name}", MAX_RATE) // quanta[name]
    return prices


def _nanoseconds(seconds: float | str, where: str, speed: float = 1.0) -> int:
    try:
        exact = Decimal(str(seconds)) / Decimal(str(speed)) * SECOND_NS
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 <= exact < 1 << 62:
        raise InvalidRequest(field=where, value=repr(seconds), expected="seconds from the start, 0 or more")
    return int(exact)


@dataclass(frozen=True)
class SpotModel:
    """The price of an EC2 spot instance between *lowest* and *highest*, as it was set before the end of 2011.

    Prices in that band followed an autoregression of their changes, with no sign of demand in it:
    change[i] = -0.7 * change[i - 1] + noise, of standard deviation 0.39 * (highest - lowest), price[0] = lowest,
    change[0] = -0.1 * (highest - lowest). The noise is drawn again while the price would leave the band or stay the
    same. Amounts are micro-credits, prices multiples of *tick*, and the band at least four ticks wide.
    Source: Agmon Ben-Yehuda et al., "Deconstructing Amazon EC2 Spot Instance Pricing" (ACM TEAC 1(3), 2013).
    """

    lowest: int
    highest: int
    tick: int = 1_000
    """0.1 cent, where a credit is a dollar."""

    def __post_init__(self) -> None:
        whole(self.tick, "tick", MAX_RATE, least=1)
        whole(self.lowest, "lowest", MAX_RATE)
        whole(self.highest, "highest", MAX_RATE, least=self.lowest + 4 * self.tick)

    def prices(self, random: Random) -> Iterator[int]:
        """Yield price after price, for ever; the same ones for the same seed of *random*."""
        band = self.highest - self.lowest
        price, change = self.lowest, -0.1 * band
        yield price
        while True:
            following = price
            while following == price or not self.lowest <= following <= self.highest:
                step = -0.7 * change + random.gauss(0.0, 0.39 * band)
                following = round((price + step) / self.tick) * self.tick
            change, price = following - price, following
            yield price


def spot(goods: Goods, bands: Mapping[str, SpotModel], random: Random, every_ns: int, count: int) -> Steps:
    """Make *count* steps of prices, one each *every_ns*: each resource of *bands* by its own spot model, others free.

    Raises: InvalidRequest: an unknown resource.
    """
    for name in bands:
        if name not in goods.names:
            raise InvalidRequest(field="spot", value=name, expected=f"one of {', '.join(goods.names)}")
    series = {name: model.prices(random) for name, model in sorted(bands.items())}
    prices = tuple(tuple(next(series[name]) if name in series else 0 for name in goods.names) for _ in range(count))
    return Steps(tuple(range(0, count * every_ns, every_ns)), prices)


class Told:
    """Prices that somebody else sets: the market, a person, another host. Silence for too long makes them stale."""

    def __init__(self, prices: Prices, stale_after_ns: int) -> None:
        self._prices = prices
        self._told_ns = 0
        self._stale_after_ns = stale_after_ns

    def tell(self, prices: Prices, now_ns: int) -> None:
        """Set the prices in force from *now_ns* on."""
        self._prices, self._told_ns = prices, now_ns

    def at(self, now_ns: int) -> Quote:
        """The prices last told."""
        silent_ns = now_ns - self._told_ns
        if silent_ns <= self._stale_after_ns:
            return Quote(self._prices)
        reason = f"no new prices for {silent_ns // SECOND_NS} s; the last ones hold"
        return Quote(self._prices, stale=True, reason=reason)
