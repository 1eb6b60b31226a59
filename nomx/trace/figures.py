"""Comparisons as figures, PNG or SVG by the file's name. Needs the extra `figures`; nothing else imports this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomx.errors import InvalidRequest, NotSupported
from nomx.trace.compare import QUANTITIES, Column
from nomx.trace.report import KINDS, Report

_SUFFIXES = (".png", ".svg", ".pdf")
_TIMES = (("call_ns", "in system calls"), ("device_ns", "in polls of the device"), ("user_ns", "in user space"))


def check(path: Path) -> None:
    """Raise before anything is traced what `draw` would raise after it.

    Raises:
        InvalidRequest: the file's name is not that of a figure.
        NotSupported: matplotlib is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise InvalidRequest(field="figure", value=path, expected=f"a file name ending in {', '.join(_SUFFIXES)}")
    _matplotlib()


def draw(columns: Sequence[Column], path: Path) -> None:
    """Draw crossings and nanoseconds per packet of each column, with the spread over the intervals.

    Raises: what `check` does.
    """
    check(path)
    matplotlib = _matplotlib()
    figure = matplotlib.figure.Figure(figsize=(max(7.0, 2.0 + 1.6 * len(columns)), 8.0), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    headings = {quantity.key: quantity.heading.removesuffix("/packet") for quantity in QUANTITIES}
    _bars(upper, columns, [(kind, headings[kind]) for kind in KINDS], "crossings a packet")
    _bars(lower, columns, list(_TIMES), "ns a packet")
    upper.legend(fontsize="small")
    lower.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def draw_intervals(reports: Sequence[Report], path: Path) -> None:
    """Draw traces over time, side by side: packets a second, and crossings and nanoseconds per packet.

    Raises: what `check` does.
    """
    check(path)
    figure = _matplotlib().figure.Figure(figsize=(9.0 * len(reports), 9.0), layout="constrained")
    grid = figure.subplots(3, len(reports), sharex=True, squeeze=False)
    for number, report in enumerate(reports):
        _intervals(grid[:, number], report)
    figure.savefig(path, dpi=150)


def _intervals(column: Sequence[Any], report: Report) -> None:
    """Draw one trace into three axes."""
    rate, crossings, times = column
    when = [sample.at_s + sample.seconds / 2 for sample in report.samples]
    rate.plot(when, [sample.rate(sample.packets.count) for sample in report.samples])
    rate.set_ylabel("packets/s")
    for kind in KINDS:
        values = [sample.per_packet(getattr(sample.crossings, kind)) for sample in report.samples]
        if any(values):
            crossings.plot(when, _gaps_as_nan(values), label=kind.replace("_", " "))
    for key, name in _TIMES:
        values = [sample.per_packet(getattr(sample.times, key)) for sample in report.samples]
        times.plot(when, _gaps_as_nan(values), label=name)
    for axes, heading in ((crossings, "crossings a packet"), (times, "ns a packet")):
        axes.set_ylabel(heading)
        if axes.lines:
            axes.legend(fontsize="small")
    times.set_xlabel(f"s; {report.kind} {report.target}, packets at {report.packets_at}")


def _gaps_as_nan(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _bars(axes: Any, columns: Sequence[Column], parts: Sequence[tuple[str, str]], heading: str) -> None:
    """Stack the medians of *parts* on each column; the line on top is the spread of the last one drawn."""
    places = range(len(columns))
    bottom = [0.0] * len(columns)
    for key, name in parts:
        spreads = [column.values[key] for column in columns]
        heights = [spread.median if spread else 0.0 for spread in spreads]
        if not any(heights):
            continue
        reach = [
            [spread.median - spread.low if spread else 0.0 for spread in spreads],
            [spread.high - spread.median if spread else 0.0 for spread in spreads],
        ]
        axes.bar(places, heights, bottom=bottom, label=name, width=0.6, yerr=reach, capsize=3, ecolor="#00000080")
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(list(places), [column.label for column in columns], rotation=15, ha="right")
    axes.set_ylabel(f"{heading} (median; lines: least to greatest)")
    axes.grid(axis="y", alpha=0.3)


def _matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        remedy = "install it: pip install 'nomx[figures]'"
        raise NotSupported(feature="drawing figures", missing="matplotlib is not installed", remedy=remedy) from error
    return matplotlib
