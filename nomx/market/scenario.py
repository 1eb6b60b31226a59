"""Scenarios: a host, its tenants and a stretch of time, as people write them in TOML; what the simulation runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from nomx.errors import InvalidRequest
from nomx.market.bids import MAX_POINTS
from nomx.market.exchange import MAX_TENANTS, Rules
from nomx.market.money import HOST_GOODS, SECOND_NS, Quanta
from nomx.market.policies import policy_named

Positive = Annotated[float, Meta(gt=0, le=1e9)]
Amount = Annotated[float, Meta(ge=0, le=1e6)]
Part = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]

SHAPES = ("concave", "linear", "step")
"""How value grows with the number of steps taken: ever less, evenly, or not at all below a threshold."""


class Host(Struct, frozen=True, forbid_unknown_fields=True):
    """What there is to hand out."""

    cores: Count = 64
    memory_gib: Count = 128
    units: Count = 64
    bandwidth_gbps: Count = 100

    @property
    def quanta(self) -> Quanta:
        """The capacity in quanta of HOST_GOODS."""
        amounts = (self.cores, self.memory_gib, self.units, self.bandwidth_gbps)
        return tuple(a * r.quanta_per_unit for a, r in zip(amounts, HOST_GOODS.resources, strict=True))


class Kind(Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of application. Point k of its menu is k steps of *step*, k from 1 to *points*."""

    name: str
    step: dict[str, Count]
    """Quanta of one step, by resource name."""
    shape: str = "concave"
    points: Annotated[int, Meta(ge=1, le=MAX_POINTS)] = MAX_POINTS
    threshold: Annotated[int, Meta(ge=1, le=MAX_POINTS)] = 1
    """Steps below which a `step` application is worth nothing."""
    value: Positive = 0.02
    """Credits a second that the first step of a typical one is worth."""
    spread: Amount = 0.6
    """Standard deviation of the logarithm of that among applications of the kind."""
    share: Positive = 1.0
    """How common the kind is, among all."""


KINDS = (
    Kind("web", {"cores": 1, "memory": 4, "units": 1, "bandwidth": 5}),
    Kind("cache", {"cores": 1, "memory": 24, "units": 1, "bandwidth": 10}, points=6, value=0.03),
    Kind("batch", {"cores": 2, "memory": 8}, "linear", value=0.02),
    Kind("stream", {"cores": 1, "memory": 2, "units": 1, "bandwidth": 40}, value=0.04),
    Kind("solver", {"cores": 2, "memory": 8, "units": 1}, "step", threshold=4, value=0.05, share=0.5),
)
"""Applications with steps, complements and diminishing returns: what a scenario has that names none."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """What the simulation runs. Times between events are exponential, with the means given."""

    title: str = "a market"
    seed: Count = 1
    hours: Annotated[float, Meta(gt=0, le=24 * 366)] = 1.0
    period_s: Annotated[float, Meta(ge=0.01, le=3600)] = 10.0
    tenants: Annotated[int, Meta(ge=1, le=MAX_TENANTS)] = 300
    """Held constant: for each that leaves another comes."""
    stay_hours: Positive = 2.0
    load_s: Positive = 600.0
    """How long a tenant's load lasts, which its values follow."""
    load_spread: Amount = 0.3
    """Standard deviation of the logarithm of the load."""
    floor: dict[str, Count] = field(default_factory=dict)
    """Quanta that every tenant buys ahead, by resource name."""
    income: Positive | None = None
    """Credits a second that a tenant may spend, times the typical value of its best point; None for no limit."""
    savings_s: Amount = 600.0
    """Seconds of income that it can save."""
    switching_cost: Part = 0.05
    """As a part of the value of a tenant's best point."""
    ignore: Part = 0.05
    """The part of revocations that nobody answers, so that the deadline repossesses."""
    grace_s: Positive = 2.0
    term_s: Amount = 60.0
    regret_samples: Count = 0
    """Tenants whose gain from misreporting is sampled at the end, under policies that charge."""
    policies: tuple[str, ...] = ("market", "drf", "karma", "weighted", "first-come", "static")
    host: Host = field(default_factory=Host)
    kinds: tuple[Kind, ...] = KINDS

    @property
    def periods(self) -> int:
        """How many times the market clears."""
        return max(1, math.ceil(self.hours * 3600 / self.period_s))

    @property
    def rules(self) -> Rules:
        """The market's settings; bids are not limited in rate, as the scenario decides how often there are any."""
        return Rules(
            period_ns=int(self.period_s * SECOND_NS),
            grace_ns=int(self.grace_s * SECOND_NS),
            term_ns=int(self.term_s * SECOND_NS),
            bids_per_second=1_000_000,
            bid_burst=1_000_000,
            longest_charge_ns=2 * int(self.period_s * SECOND_NS),
        )


def read_scenario(text: str) -> Scenario:
    """Read a scenario from TOML *text*.

    Raises: InvalidRequest: no TOML, an unknown setting, or a value out of bounds; the setting is named.
    """
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
    except msgspec.DecodeError as error:
        raise InvalidRequest(field="scenario", value=str(error), expected="a scenario in TOML") from error
    check_scenario(scenario)
    return scenario


def changed(scenario: Scenario, settings: Mapping[str, object]) -> Scenario:
    """Return *scenario* with some *settings* replaced.

    Raises: InvalidRequest: an unknown setting, or a value out of bounds; the setting is named.
    """
    try:
        replaced = msgspec.convert(msgspec.to_builtins(scenario) | dict(settings), Scenario)
    except msgspec.ValidationError as error:
        raise InvalidRequest(field="scenario", value=str(error), expected="settings within their bounds") from error
    check_scenario(replaced)
    return replaced


def check_scenario(scenario: Scenario) -> None:
    """Check what types alone do not say.

    Raises: InvalidRequest: unknown policies, shapes or resources; no kinds or policies; names used twice.
    """
    for name in scenario.policies:
        policy_named(name)
    names = [kind.name for kind in scenario.kinds]
    if not scenario.policies or not names or len(set(names)) < len(names):
        raise InvalidRequest(field="kinds, policies", value=names, expected="one at least of each, named differently")
    HOST_GOODS.quanta(scenario.floor, "floor", scenario.host.quanta)
    for kind in scenario.kinds:
        if kind.shape not in SHAPES:
            raise InvalidRequest(field=f"{kind.name}.shape", value=kind.shape, expected=f"one of {', '.join(SHAPES)}")
        if not any(HOST_GOODS.quanta(kind.step, f"{kind.name}.step")):
            raise InvalidRequest(field=f"{kind.name}.step", value=kind.step, expected="at least a quantum of something")
