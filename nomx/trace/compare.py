"""The same work on several paths or programs, side by side: per packet, with the spread over the intervals.

From reports, traced now or read from files, to one table; `nomx.trace.figures` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from msgspec import Struct

from nomx.errors import InvalidRequest
from nomx.trace.report import KINDS, Report, Sample

_WHOLE = 0.5
"""An interval shorter than this share of the longest is a rest at the end, and no sample."""


class Spread(Struct, frozen=True):
    """A quantity over the intervals: median, least and greatest."""

    median: float
    low: float
    high: float
    intervals: int


@dataclass(frozen=True)
class Quantity:
    """One row of a comparison: its key, how people call it, and how it comes from a sample."""

    key: str
    heading: str
    value: Callable[[Sample], float | None]


def _per_packet(kind: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.per_packet(getattr(sample.crossings, kind))


QUANTITIES = (
    Quantity("packets_per_s", "packets/s", lambda sample: sample.rate(sample.packets.count)),
    *(Quantity(kind, f"{kind.replace('_', ' ')}/packet", _per_packet(kind)) for kind in KINDS),
    Quantity("crossings", "crossings/packet", lambda sample: sample.per_packet(sample.crossings.total)),
    Quantity("kernel_ns", "kernel ns/packet", lambda sample: sample.per_packet(sample.times.kernel_ns)),
    Quantity("call_ns", "of it in system calls", lambda sample: sample.per_packet(sample.times.call_ns)),
    Quantity("device_ns", "of it in polls of the device", lambda sample: sample.per_packet(sample.times.device_ns)),
    Quantity("user_ns", "user ns/packet", lambda sample: sample.per_packet(sample.times.user_ns)),
    Quantity("stolen_ns", "stolen ns/packet", lambda sample: sample.per_packet(sample.times.stolen_ns)),
)
"""The rows, in order."""


class Column(Struct, frozen=True):
    """One target of a comparison."""

    label: str
    path: str
    packets_at: str
    values: dict[str, Spread | None]
    """By the quantity's key; None where there were no packets."""
    no_device: bool
    """Whether device polls were not counted, so that kernel time lacks them."""


def compare(reports: Sequence[Report], labels: Sequence[str] = ()) -> tuple[Column, ...]:
    """Put *reports* side by side, each under its label (else under its target's).

    Raises: InvalidRequest: fewer than two reports, or as many labels as there are not reports.
    """
    if len(reports) < 2:
        raise InvalidRequest(field="compare", value=len(reports), expected="two targets or saved traces, or more")
    if labels and len(labels) != len(reports):
        raise InvalidRequest(field="labels", value=", ".join(labels), expected=f"{len(reports)} labels")
    names = labels or tuple(report.target for report in reports)
    return tuple(_column(name, report) for name, report in zip(names, reports, strict=True))


def _column(label: str, report: Report) -> Column:
    values = {quantity.key: spread(report, quantity.value) for quantity in QUANTITIES}
    return Column(label, report.path, report.packets_at, values, no_device=not report.devices)


def spread(report: Report, value: Callable[[Sample], float | None]) -> Spread | None:
    """Return the median and the extremes of *value* over the whole intervals; None where it has no value."""
    longest = max((sample.seconds for sample in report.samples), default=0.0)
    whole = [sample for sample in report.samples if sample.seconds >= _WHOLE * longest]
    found = [each for sample in whole if (each := value(sample)) is not None]
    if not found:
        return None
    return Spread(median(found), min(found), max(found), len(found))
