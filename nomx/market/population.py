"""Synthetic tenants: what they are worth to whom, when they come, change and go; made from a scenario and its seed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from nomx.market.bids import Menu
from nomx.market.money import HOST_GOODS, MAX_RATE, MICRO, SECOND_NS, Goods, Quanta
from nomx.market.policy import Case, Tenant
from nomx.market.scenario import Kind, Scenario

KNEE_STEPS = 3.0
"""Steps after which a concave application has reaped 1 - 1/e of all it can."""


@dataclass(frozen=True)
class Profile:
    """One application: its kind, and how much it is worth compared with a typical one."""

    kind: Kind
    scale: float

    def points(self, load: float, room: Quanta) -> list[tuple[Mapping[str, int], int]]:
        """The points of its menu under *load* (1.0 is usual) that are worth something and within *room*."""
        listed: list[tuple[Mapping[str, int], int]] = []
        limits = HOST_GOODS.by_name(room)
        for steps in range(1, self.kind.points + 1):
            amounts = {name: count * steps for name, count in self.kind.step.items()}
            value = min(MAX_RATE, int(self.kind.value * self.scale * load * growth(self.kind, steps) * MICRO))
            if value >= 1 and all(count <= limits[name] for name, count in amounts.items()):
                listed.append((amounts, value))
        return listed

    def menu(self, load: float, room: Quanta, stay: float, goods: Goods = HOST_GOODS) -> Menu:
        """The menu under *load*; *stay* is its switching cost, as a part of the best value."""
        points = self.points(load, room)
        best = max((value for _, value in points), default=0)
        return Menu.of(goods, room, points, int(stay * best))


def growth(kind: Kind, steps: int) -> float:
    """The value of *steps* steps, where that of the first (of a step application: one step's part) is 1."""
    if kind.shape == "concave":
        return -math.expm1(-steps / KNEE_STEPS) / -math.expm1(-1 / KNEE_STEPS)
    return float(steps) if kind.shape == "linear" or steps >= kind.threshold else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a tenant does: *what* is `join`, `bid` or `leave`."""

    at_ns: int
    what: str
    tenant: str
    profile: Profile
    load: float


def draw_profile(scenario: Scenario, random: Random) -> Profile:
    """Draw an application from the scenario's kinds."""
    kind = random.choices(scenario.kinds, [kind.share for kind in scenario.kinds])[0]
    return Profile(kind, random.lognormvariate(0.0, kind.spread))


def crowd(scenario: Scenario) -> Case:
    """The scenario's tenants at one instant, with nothing held yet: what experiments on clearing alone decide."""
    random, supply = Random(scenario.seed), scenario.host.quanta
    tenants = [
        Tenant(f"t{number}", number, draw_profile(scenario, random).menu(1.0, supply, 0.0), HOST_GOODS.nothing)
        for number in range(scenario.tenants)
    ]
    return Case.of(HOST_GOODS, supply, scenario.rules.reserve, tenants)


def events(scenario: Scenario) -> Iterator[Event]:
    """Yield what happens, in order of time, the same for every policy. Who leaves is replaced at once."""
    random = Random(scenario.seed)
    end_ns = int(scenario.hours * 3600 * SECOND_NS)
    queue: list[tuple[int, int, str]] = [(0, number, "join") for number in range(scenario.tenants)]
    profiles: dict[int, Profile] = {}
    leaves: dict[int, int] = {}
    newest = scenario.tenants
    while queue:
        at_ns, number, what = heapq.heappop(queue)
        if at_ns >= end_ns:
            return
        if what == "join":
            profiles[number] = draw_profile(scenario, random)
            leaves[number] = at_ns + _after(random, scenario.stay_hours * 3600)
            heapq.heappush(queue, (leaves[number], number, "leave"))
        if what == "leave":
            heapq.heappush(queue, (at_ns, newest, "join"))
            newest += 1
        else:
            change_ns = at_ns + _after(random, scenario.load_s)
            if change_ns < leaves[number]:
                heapq.heappush(queue, (change_ns, number, "bid"))
        load = random.lognormvariate(0.0, scenario.load_spread)
        yield Event(at_ns, what, f"{profiles[number].kind.name}-{number}", profiles[number], load)


def _after(random: Random, mean_s: float) -> int:
    return 1 + int(random.expovariate(1 / mean_s) * SECOND_NS)
