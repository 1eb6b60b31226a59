"""Bids: what a tenant sends to the exchange, and the judgement of it; policies see only menus that passed here.

A tenant holds a floor, bought ahead and never taken, and bids for more with a *menu*: alternatives, of which it gets
one or none. Each point says a bundle above the floor and what that bundle is worth a second. So steps (worth nothing
below four cores) and complements (cores are worthless without a device unit) are said as they are.

Source: Agmon Ben-Yehuda et al., "The Resource-as-a-Service (RaaS) Cloud" (HotCloud 2012), for the floor and the
auctioned rest; "Ginseng: Market-Driven Memory Allocation" (VEE 2014), for step-shaped valuations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nomx.errors import InvalidRequest
from nomx.market.money import MAX_RATE, Goods, Quanta, whole

MAX_POINTS = 8
"""The most alternatives in one menu."""

MAX_NAME = 64
"""The longest name of a tenant, in characters."""

STAY_SHARE = 10
"""A declared switching cost counts up to one part in STAY_SHARE of the value of the point held: enough to halve the
number of changes, too little to hold a bundle against somebody who values it clearly more."""


@dataclass(frozen=True, slots=True)
class Point:
    """One operating point: *quanta* above the floor, worth *value* micro-credits a second."""

    quanta: Quanta
    value: int


@dataclass(frozen=True)
class Menu:
    """Up to MAX_POINTS alternatives, and what moving away from the one held costs (micro-credits a second)."""

    points: tuple[Point, ...] = ()
    switching_cost: int = 0

    @classmethod
    def of(
        cls, goods: Goods, room: Quanta, points: Iterable[tuple[Mapping[str, int], int]], switching_cost: int = 0
    ) -> Menu:
        """Judge a menu that came from outside; *room* is the most a bundle may ever be: capacity less the own floor.

        Raises: InvalidRequest: more than MAX_POINTS points; an unknown resource; a bundle that is empty, twice there,
            or beyond *room*; a value or switching cost that is no integer from 0 (value: 1) to MAX_RATE.
        """
        listed = list(points)
        if len(listed) > MAX_POINTS:
            raise InvalidRequest(field="points", value=len(listed), expected=f"at most {MAX_POINTS} operating points")
        judged: dict[Quanta, Point] = {}
        for index, (amounts, value) in enumerate(listed):
            quanta = goods.quanta(amounts, f"points[{index}]", room)
            if not any(quanta) or quanta in judged:
                raise InvalidRequest(
                    field=f"points[{index}]",
                    value=dict(amounts),
                    expected="a bundle that is not empty and not in the menu twice",
                )
            judged[quanta] = Point(quanta, whole(value, f"points[{index}].value", MAX_RATE, least=1))
        return cls(tuple(judged.values()), whole(switching_cost, "switching_cost", MAX_RATE))

    def value_of(self, held: Quanta) -> int:
        """What holding at least *held* is worth a second: the best point that it covers, 0 if none."""
        return max((p.value for p in self.points if all(map(int.__le__, p.quanta, held))), default=0)

    def stay(self, point: Point) -> int:
        """The switching cost that counts in favour of *point* while it is held, in micro-credits a second."""
        return min(self.switching_cost, point.value // STAY_SHARE)

    @cached_property
    def by_value(self) -> tuple[int, ...]:
        """The points by index, the most valued first: wishes where nothing has a price. Ties go as listed."""
        return tuple(sorted(range(len(self.points)), key=lambda index: -self.points[index].value))

    @cached_property
    def table(self) -> tuple[int, ...]:
        """Quanta of choice 0 (nothing) to MAX_POINTS in one row, absent points as nothing."""
        if not self.points:
            return ()
        width = len(self.points[0].quanta)
        rows = [0] * width + [count for point in self.points for count in point.quanta]
        return (*rows, *(0,) * (width * (MAX_POINTS + 1) - len(rows)))

    @cached_property
    def worth(self) -> tuple[int, ...]:
        """Values of choice 0 (nothing) to MAX_POINTS, absent points as 0."""
        values = [0, *(point.value for point in self.points)]
        return (*values, *(0,) * (MAX_POINTS + 1 - len(values)))


NO_MENU = Menu()
"""The menu of a tenant that wants nothing beyond its floor."""


def tenant_name(name: str) -> str:
    """Return *name* if it is a usable name of a tenant.

    Raises: InvalidRequest: empty, longer than MAX_NAME, or with a character that does not print.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidRequest(
            field="tenant", value=repr(name[:MAX_NAME]), expected=f"1 to {MAX_NAME} printable characters"
        )
    return name
