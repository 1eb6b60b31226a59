"""Money and quantities, the words of the whole market: integer micro-credits, integer quanta, and bounds under
which no product of them leaves 64 bits.

A *credit* is the host's own money; its owner says what it is worth. A *rate* is micro-credits a second. A *quantum*
is the smallest amount of a resource that changes hands. A price is the rate of one quantum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import cached_property
from operator import add, le, mul, sub

from nomx.errors import InvalidRequest

MICRO = 1_000_000
"""Micro-credits in a credit."""

SECOND_NS = 1_000_000_000

MAX_RESOURCES = 8
MAX_QUANTA = 10**6
"""The most quanta of one resource that a host may have."""

MAX_RATE = 10**12
"""The highest value or price: a million credits a second. MAX_RATE * MAX_QUANTA * MAX_RESOURCES < 2**63, so the cost
of any bundle at any price is exact in a 64-bit integer."""

MAX_BALANCE = 10**15
"""The most micro-credits one account may hold: a thousand million credits."""

Quanta = tuple[int, ...]
"""A bundle: one number of quanta a resource, in the order of its Goods."""

Prices = tuple[int, ...]
"""One price a resource, in micro-credits a quantum and second, in the order of its Goods."""


@dataclass(frozen=True)
class Resource:
    """Something handed out. *unit* is what people say, *quanta_per_unit* how finely it is divided."""

    name: str
    unit: str
    quanta_per_unit: int = 1


@dataclass(frozen=True)
class Goods:
    """The resources of a market, in a fixed order: the index into every Quanta and Prices."""

    resources: tuple[Resource, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.resources) <= MAX_RESOURCES or len(self._index) != len(self.resources):
            raise InvalidRequest(
                field="resources",
                value=len(self.resources),
                expected=f"1 to {MAX_RESOURCES} resources of different names",
            )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {resource.name: index for index, resource in enumerate(self.resources)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index)

    @property
    def nothing(self) -> Quanta:
        return (0,) * len(self.resources)

    def quanta(self, amounts: Mapping[str, int], field: str, most: Quanta | None = None) -> Quanta:
        """Read *amounts* (quanta by resource name; a resource left out is 0) as a bundle.

        Raises: InvalidRequest: an unknown resource, or an amount that is no integer from 0 to that of *most*.
        """
        for name in amounts:
            if name not in self._index:
                raise InvalidRequest(
                    field=f"{field}.{name}", value="this resource", expected=f"one of {', '.join(self.names)}"
                )
        limits = most or (MAX_QUANTA,) * len(self.resources)
        return tuple(
            whole(amounts.get(name, 0), f"{field}.{name}", limit, "quanta")
            for name, limit in zip(self.names, limits, strict=True)
        )

    def by_name(self, numbers: tuple[int, ...]) -> dict[str, int]:
        return dict(zip(self.names, numbers, strict=True))

    def units(self, quanta: Quanta) -> dict[str, float]:
        """The bundle in the units people use, by resource name."""
        return {r.name: q / r.quanta_per_unit for r, q in zip(self.resources, quanta, strict=True)}


HOST_GOODS = Goods(
    (
        Resource("cores", "core"),
        Resource("memory", "GiB", quanta_per_unit=4),
        Resource("units", "device unit"),
        Resource("bandwidth", "Gbit/s", quanta_per_unit=10),
    )
)
"""What a nomx host sells: memory in quanta of 256 MiB, bandwidth in quanta of 100 Mbit/s."""


def whole(number: object, field: str, most: int, unit: str = "micro-credits", least: int = 0) -> int:
    """Return *number* if it is an integer from *least* to *most*, for data that came from outside.

    Raises: InvalidRequest: anything else: negative, not a number, infinite, too large, a truth value.
    """
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return number
    raise InvalidRequest(
        field=field, value=repr(number), expected=f"a whole number of {unit} from {least:,} to {most:,}"
    )


def micro_credits(amount: int | float | str | Decimal, field: str, most: int = MAX_BALANCE) -> int:
    """Convert an *amount* of credits, as people write it, to integer micro-credits, rounding half to even.

    Raises: InvalidRequest: not a finite number from 0 to *most* micro-credits.
    """
    try:
        exact = Decimal(str(amount)) * MICRO
    except InvalidOperation:
        exact = Decimal("NaN")
    if isinstance(amount, bool) or not exact.is_finite() or not 0 <= exact <= most:
        raise InvalidRequest(field=field, value=repr(amount), expected=f"credits, from 0 to {most // MICRO:,}")
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def cost(prices: Prices, quanta: Quanta) -> int:
    """The rate of a bundle at *prices*, in micro-credits a second; exact."""
    return sum(map(mul, prices, quanta))


def plus(left: Quanta, right: Quanta) -> Quanta:
    """Add two bundles."""
    return tuple(map(add, left, right))


def minus(left: Quanta, right: Quanta) -> Quanta:
    """Take *right* from *left*; the caller knows whether that can go below zero."""
    return tuple(map(sub, left, right))


def lesser(left: Quanta, right: Quanta) -> Quanta:
    """The smaller number of each resource."""
    return tuple(map(min, left, right))


def fits(quanta: Quanta, room: Quanta) -> bool:
    """Whether no resource of the bundle exceeds that of *room*."""
    return all(map(le, quanta, room))
