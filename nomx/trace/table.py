"""Reports as comma-separated values, one row an interval: what a spreadsheet or pandas reads."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

from nomx.trace.report import KINDS, Report, Sample

_PACKETS = ("rx", "tx", "rx_bytes", "tx_bytes")
_TIMES = ("user_ns", "call_ns", "stolen_ns", "device_ns")
COLUMNS = ("target", "at_s", "seconds", *_PACKETS, *KINDS, *_TIMES)


def write(file: TextIO, reports: Iterable[Report]) -> None:
    """Write every interval of every report, counts and nanoseconds as they are, with a heading."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for report in reports:
        for sample in report.samples:
            writer.writerow(_row(report.target, sample))


def _row(target: str, sample: Sample) -> list[object]:
    packets = [getattr(sample.packets, name) for name in _PACKETS]
    crossings = [getattr(sample.crossings, kind) for kind in KINDS]
    times = [getattr(sample.times, name) for name in _TIMES]
    return [target, f"{sample.at_s:.6f}", f"{sample.seconds:.6f}", *packets, *crossings, *times]
