"""Batching delay: what does holding packets for W microseconds each way cost in latency, and what does it save?

Run as root, on a machine that is otherwise idle: `python experiments/0009-batching-delay/run.py`.
Writes result.json, README.md and, with matplotlib, figure.svg beside this file. The knob is turned on
one running application, while traffic flows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from nomx.bench.bed import Application, Bed, until_answering
from nomx.bench.compare import Figure
from nomx.bench.generator import saturate
from nomx.bench.roundtrip import measure
from nomx.bench.station import Course, Station, Target
from nomx.client.connection import Client

HERE = Path(__file__).resolve().parent
INSTANCE, PREFIX = "nomxx0009", "10.96.0.0/24"
APPLICATION, PORT = "10.96.0.99", 7000
STATION_CPU, SERVER_CPU = 0, 1
DELAYS_US = (0, 10, 20, 50, 100, 200, 500, 1000)
MODERATE_PPS = 50_000.0
SETTLE_S = 0.05


def measured(bed: Bed, station: Station, course: Course, echo: Application, seconds: float) -> dict[str, float]:
    """One delay, as it is set now: saturated, at a moderate load, and with one request in flight."""
    saturated = saturate(station, course, seconds=seconds, cpu=STATION_CPU)
    process = psutil.Process(echo.pid)
    before, start = sum(process.cpu_times()[:2]), answered(bed)
    moderate = saturate(station, course, seconds=seconds, cpu=STATION_CPU, offered_pps=MODERATE_PPS)
    cpu_s, packets = sum(process.cpu_times()[:2]) - before, answered(bed) - start
    trips = measure(station, course, count=1000, cpu=STATION_CPU)
    return {
        "saturated_pps": saturated.answered_pps,
        "moderate_answered": moderate.answered / moderate.sent,
        "moderate_cpu_ns": 1e9 * cpu_s / packets,
        "p50_us": trips.p50_us,
        "p99_us": trips.p99_us,
        "lost": float(trips.lost),
    }


def answered(bed: Bed) -> int:
    """Packets that the application has sent, as the daemon counts them."""
    with Client.connect(bed.socket) as client:
        return sum(lease.traffic.tx_packets for lease in client.leases())


def run(seconds: float, repetitions: int) -> dict[int, dict[str, Figure]]:
    """All delays in turn, again and again."""
    values: dict[int, dict[str, list[float]]] = {delay: {} for delay in DELAYS_US}
    with (
        tempfile.TemporaryDirectory() as folder,
        Bed.open(INSTANCE, PREFIX) as bed,
        Station(bed.socket, f"{INSTANCE}st") as station,
    ):
        os.chmod(folder, 0o755)  # the application is nobody's
        script = shutil.copy(HERE / "adjustable_echo.py", folder)
        with bed.application("soft", SERVER_CPU, ["--address", APPLICATION, str(script)]) as echo:
            course = until_answering(station, Target(APPLICATION, PORT), STATION_CPU)
            for _ in range(repetitions):
                for delay in DELAYS_US:
                    echo.tell(str(delay))
                    time.sleep(SETTLE_S)
                    for name, value in measured(bed, station, course, echo, seconds).items():
                        values[delay].setdefault(name, []).append(value)
                    print(f"W {delay} us: {values[delay]['p50_us'][-1]:.1f} us", file=sys.stderr, flush=True)
    return {delay: {name: Figure.of(each) for name, each in figures.items()} for delay, figures in values.items()}


def pareto(figures: dict[int, dict[str, Figure]]) -> list[int]:
    """The delays that no other beats in both p50 and CPU time a packet at the moderate load."""

    def beats(one: dict[str, Figure], other: dict[str, Figure]) -> bool:
        names = ("p50_us", "moderate_cpu_ns")
        return all(one[name].median <= other[name].median for name in names) and one is not other

    return [delay for delay, each in figures.items() if not any(beats(other, each) for other in figures.values())]


def report(result: dict[str, Any], figures: dict[int, dict[str, Figure]]) -> str:
    """The result as the page that people read."""

    def cell(figure: Figure, form: str) -> str:
        return f"{figure.median:{form}} ({figure.least:{form}} to {figure.greatest:{form}})"

    machine = result["machine"]
    lines = [
        "# 0009: batching delay",
        "",
        "What does holding packets for W microseconds each way cost in latency, and what does it save?",
        "",
        f"`{result['command']}` on {result['date']}: {machine['cores']} cores, Linux {machine['kernel']}, Python "
        f"{machine['python']}. A UDP echo of 64-byte frames on the soft path, wait strategy adaptive, W in both "
        f"directions, turned while it runs; {result['repetitions']} repetitions in turn, medians with the least and "
        f"greatest in brackets. CPU time a packet is the application's, offered {MODERATE_PPS:,.0f} packets/s.",
        "",
        "| W, µs | packets/s, saturated | CPU ns a packet, moderate load | p50 round trip, µs | p99, µs | Pareto |",
        "|---|---|---|---|---|---|",
    ]
    best = pareto(figures)
    for delay, each in figures.items():
        cells = [
            cell(each["saturated_pps"], ",.0f"),
            cell(each["moderate_cpu_ns"], ",.0f"),
            cell(each["p50_us"], ",.1f"),
            cell(each["p99_us"], ",.1f"),
            "yes" if delay in best else "",
        ]
        lines.append(f"| {delay} | {' | '.join(cells)} |")
    lines += ["", "![CPU time and latency against W](figure.svg)", ""] if (HERE / "figure.svg").exists() else [""]
    return "\n".join(lines)


def draw(figures: dict[int, dict[str, Figure]]) -> None:
    """Latency, throughput and CPU time against W, and the frontier."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(11.0, 4.0), layout="constrained")
    against, frontier = figure.subplots(1, 2)
    delays = list(figures)
    for name in ("p50_us", "p99_us"):
        against.plot(delays, [figures[delay][name].median for delay in delays], marker="o", label=name[:3])
    against.set(xlabel="W, µs each way", ylabel="round trip, µs", title="latency")
    against.legend()
    points = [(figures[delay]["moderate_cpu_ns"].median, figures[delay]["p50_us"].median, delay) for delay in delays]
    frontier.scatter([cpu for cpu, _, _ in points], [p50 for _, p50, _ in points])
    for cpu, p50, delay in points:
        frontier.annotate(f"W {delay}", (cpu, p50))
    best = sorted(point for point in points if point[2] in pareto(figures))
    frontier.plot([cpu for cpu, _, _ in best], [p50 for _, p50, _ in best], linestyle="--")
    frontier.set(xlabel="CPU ns a packet, moderate load", ylabel="p50 round trip, µs", title="Pareto frontier")
    figure.savefig(HERE / "figure.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **vars(given),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
    }
    figures = run(given.seconds, given.repetitions)
    result["by_delay_us"] = {
        str(delay): {name: asdict(figure) for name, figure in each.items()} for delay, each in figures.items()
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    try:
        draw(figures)
    except ImportError:
        print("no figure: matplotlib is not installed (extra: figures)", file=sys.stderr)
    (HERE / "README.md").write_text(report(result, figures))


if __name__ == "__main__":
    main()
