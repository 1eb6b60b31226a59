"""What work is worth to an application: the nom paper's three utility functions, one's own, and the axiom on them all.

A utility function says what a second of running is worth, in credits a second, from what was measured in it. With
the paper's units, T is throughput in Gbit/s, L mean latency in seconds, sigma its standard deviation (jitter) in
seconds, and P the price of outgoing bandwidth in credits a Gbit. The paper's functions all have the form
T * (value of a Gbit at this latency and jitter - P); here T * P is the cost, a measurement of its own, so that a
function is the same whether bandwidth, cores or memory is what costs.

Source: Ben-Yehuda et al., "The nom Profit-Maximizing Operating System" (VEE 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from nomx.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured over some seconds of running."""

    throughput_gbps: float
    latency_s: float
    """Mean, above 0."""
    jitter_s: float
    """Standard deviation of latency."""
    cost: float
    """What all resources cost, in credits a second."""


class Utility(Protocol):
    """Worth in credits a second of a second like the one measured. Has to keep the axiom (`check_axiom`)."""

    def __call__(self, measured: Measured) -> float: ...


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise InvalidRequest(field=name, value=number, expected="a finite number above 0")


@dataclass(frozen=True)
class Penalty:
    """A service-level agreement with a fine: T * alpha * (1 - min(1, X * N(L0, L, sigma))) - cost.

    N is the part of requests slower than L0, if latency is normal.

    Raises: InvalidRequest: a parameter that is not positive, or a *factor* below 2: with a mean latency above
        the objective more jitter would then mean less penalty.
    """

    alpha: float = 20.0
    """Credits a Gbit."""
    objective_s: float = 750e-6
    """L0."""
    factor: float = 100.0
    """X."""

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha, objective_s=self.objective_s)
        if not (math.isfinite(self.factor) and self.factor >= 2):
            raise InvalidRequest(field="factor", value=self.factor, expected="a finite number of at least 2")

    def __call__(self, measured: Measured) -> float:
        """Worth in credits a second."""
        late = exceeds(self.objective_s, measured.latency_s, measured.jitter_s)
        return measured.throughput_gbps * self.alpha * (1 - min(1.0, self.factor * late)) - measured.cost


@dataclass(frozen=True)
class Refund:
    """A price that falls with latency, to nothing and not below: T * max(0, alpha - beta * L) - cost.

    Raises: InvalidRequest: a parameter that is not positive.
    """

    alpha: float = 20.0
    """Credits a Gbit."""
    beta: float = 10.0
    """Credits a Gbit for each second of latency."""

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha, beta=self.beta)

    def __call__(self, measured: Measured) -> float:
        """Worth in credits a second."""
        return measured.throughput_gbps * max(0.0, self.alpha - self.beta * measured.latency_s) - measured.cost


@dataclass(frozen=True)
class Bonus:
    """A price with a premium for speed, up to delta: T * (alpha + min(gamma / L, delta)) - cost.

    Raises: InvalidRequest: a parameter that is not positive (delta may be infinite).
    """

    alpha: float = 20.0
    """Credits a Gbit."""
    gamma: float = 0.01
    """Credit-seconds a Gbit."""
    delta: float = math.inf
    """Credits a Gbit."""

    def __post_init__(self) -> None:
        _positive(alpha=self.alpha, gamma=self.gamma, delta=min(self.delta, 1.0))

    def __call__(self, measured: Measured) -> float:
        """Worth in credits a second."""
        premium = min(self.gamma / measured.latency_s, self.delta)
        return measured.throughput_gbps * (self.alpha + premium) - measured.cost


def exceeds(objective: float, mean: float, deviation: float) -> float:
    """The probability that a normal sample exceeds *objective*; without deviation 0 or 1."""
    if deviation <= 0:
        return float(mean > objective)
    return 0.5 * math.erfc((objective - mean) / (deviation * math.sqrt(2)))


NAMED: dict[str, Callable[..., Utility]] = {"penalty": Penalty, "refund": Refund, "bonus": Bonus}


def named(text: str) -> Utility:
    """Read a utility function as people write it: `penalty`, or `penalty:alpha=20,objective_s=0.00075`.

    Raises: InvalidRequest: an unknown name or parameter, or a value that is not acceptable.
    """
    name, _, rest = text.partition(":")
    try:
        parameters = {
            key.strip(): float(value) for key, _, value in (part.partition("=") for part in rest.split(",") if part)
        }
        return NAMED[name](**parameters)
    except (KeyError, TypeError, ValueError) as error:
        expected = f"one of {', '.join(NAMED)}, with parameters such as penalty:alpha=20"
        raise InvalidRequest(field="utility", value=repr(text), expected=expected) from error


@dataclass(frozen=True)
class Domain:
    """Where an application means to run: the axiom is checked at every combination of these values, each rising."""

    throughput_gbps: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    latency_s: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 7.4e-4, 7.6e-4, 1e-3, 1e-2, 1.0)
    jitter_s: tuple[float, ...] = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-1)
    cost: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0, 1000.0)

    def points(self) -> Iterable[Measured]:
        """Every combination."""
        return (Measured(*values) for values in product(self.throughput_gbps, self.latency_s, self.jitter_s, self.cost))


def check_axiom(utility: Utility, domain: Domain | None = None) -> None:
    """Try whether *utility* never falls in throughput, and never rises in cost, latency or jitter, all else equal.

    An application with such a function never earns by doing less for the same money. A check over *domain*, not
    a proof.

    Raises: InvalidRequest: it does, between the two points named, or it gives something that is no finite number.
    """
    domain = domain or Domain()
    for low in domain.points():
        worth = _finite(utility, low)
        for name, sign in (("throughput_gbps", 1), ("latency_s", -1), ("jitter_s", -1), ("cost", -1)):
            values: tuple[float, ...] = getattr(domain, name)
            place = values.index(getattr(low, name)) + 1
            if place == len(values):
                continue
            high = replace(low, **{name: values[place]})
            if sign * (_finite(utility, high) - worth) < -1e-9 * abs(worth):
                raise InvalidRequest(
                    field="utility",
                    value=f"{worth:g} credits/s at {low}, and {utility(high):g} with {name} {values[place]:g}",
                    expected=f"one that never {'falls' if sign > 0 else 'rises'} as {name} rises",
                )


def _finite(utility: Utility, measured: Measured) -> float:
    worth = utility(measured)
    if not math.isfinite(worth):
        raise InvalidRequest(
            field="utility", value=f"{worth} at {measured}", expected="a finite number of credits a second"
        )
    return worth
