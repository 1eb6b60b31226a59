"""First light: is an application on a soft VF faster than the kernel's sockets, and what does the way there cost?

Run as root, on a machine that is otherwise idle: `python experiments/0001-first-light/run.py`.
Writes result.json and the table in README.md, both beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomx.api.lease import LeaseSpec, UmemGeometry
from nomx.bench import peers
from nomx.bench.bed import NOMX, Application, Bed, until_answering
from nomx.bench.compare import Figure, alternate, ratio
from nomx.bench.generator import saturate
from nomx.bench.roundtrip import measure
from nomx.bench.station import Course, Station, Target
from nomx.client.connection import Client
from nomx.linux import memory

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
INSTANCE = "nomxx0001"
PREFIX = "10.93.0.0/24"
HOST, APPLICATION, PORT = "10.93.0.1", "10.93.0.99", 7000
GENERATOR_CPU, SERVER_CPU = 0, 1

CONTENDERS: dict[str, tuple[str, int, list[str]]] = {
    "nomx, soft path": (APPLICATION, PORT, []),
    "nomx, kernel path": (HOST, PORT, []),
    "C, recvmmsg/sendmmsg 64": (HOST, PORT + 1, ["{udp_echo}", "batch"]),
    "C, recvfrom/sendto": (HOST, PORT + 2, ["{udp_echo}", "one"]),
    "Python, recvfrom/sendto": (HOST, PORT + 3, [sys.executable, str(PEERS / "udp_echo.py"), "sockets"]),
}
"""Where each listens, and its command if it is not nomx. All run on SERVER_CPU at once, asleep but in their turn."""


def nomx_echo(bed: Bed, path: str) -> AbstractContextManager[Application]:
    """`nomx run` of the echo as nobody, on SERVER_CPU."""
    address = ["--address", APPLICATION] if path == "soft" else []
    return bed.application(path, SERVER_CPU, [*address, "-m", "nomx.apps.echo", "--port", str(PORT)])


@contextlib.contextmanager
def everyone(bed: Bed, station: Station, udp_echo: Path) -> Iterator[dict[str, Course]]:
    """Run all contenders until each answers; the ways to them."""
    with contextlib.ExitStack() as cleanup:
        for address, port, command in CONTENDERS.values():
            if command:
                words = [word.format(udp_echo=udp_echo) for word in command]
                cleanup.enter_context(peers.running([*words, address, str(port)], SERVER_CPU))
            else:
                cleanup.enter_context(nomx_echo(bed, "soft" if address == APPLICATION else "kernel"))
        yield {
            name: until_answering(station, Target(address, port), GENERATOR_CPU)
            for name, (address, port, _) in CONTENDERS.items()
        }


def throughput(
    station: Station, courses: dict[str, Course], seconds: float, repetitions: int
) -> dict[str, list[float]]:
    """Answered packets per second of each contender, saturated."""

    def run(name: str, course: Course) -> Callable[[], float]:
        def once() -> float:
            result = saturate(station, course, seconds=seconds, cpu=GENERATOR_CPU)
            say(f"{name}: {result.answered_pps:,.0f} of {result.offered_pps:,.0f} packets/s")
            return result.answered_pps

        return once

    return alternate({name: run(name, course) for name, course in courses.items()}, repetitions)


def round_trips(
    station: Station, courses: dict[str, Course], count: int, repetitions: int
) -> dict[str, dict[str, list[float]]]:
    """p50 and p99 round trip in microseconds of each contender but the batching one, which is not for this."""
    p99: dict[str, list[float]] = {}

    def run(name: str, course: Course) -> Callable[[], float]:
        def once() -> float:
            result = measure(station, course, count=count, cpu=GENERATOR_CPU)
            say(f"{name}: p50 {result.p50_us:.1f} us, p99 {result.p99_us:.1f} us, {result.lost} lost")
            p99.setdefault(name, []).append(result.p99_us)
            return result.p50_us

        return once

    runs = {name: run(name, course) for name, course in courses.items() if "64" not in name}
    p50 = alternate(runs, repetitions)
    return {"p50": p50, "p99": p99}


def launch_overhead(bed: Bed, repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of `python empty.py` and of `nomx run empty.py`, the daemon running."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        environment = os.environ | {"NOMX_SOCKET": str(bed.socket)}

        def timed(command: list[str]) -> Callable[[], float]:
            def once() -> float:
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=environment)
                return (time.perf_counter() - start) * 1e3

            return once

        plain, run = [sys.executable, script.name], [NOMX, "run", script.name]
        return alternate({"python": timed(plain), "nomx run": timed(run)}, repetitions)


def grants(bed: Bed, repetitions: int) -> list[float]:
    """Milliseconds from asking for a soft VF to having its sockets; each in a process of its own, which then ends."""
    times = []
    for _ in range(repetitions):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            geometry = UmemGeometry()
            umem = memory.memfd("grant", geometry.slice_bytes)
            memory.map_shared(umem, geometry.slice_bytes, populate=True)
            with Client.connect(bed.socket) as client:
                start = time.perf_counter()
                grant = client.acquire(LeaseSpec(path="soft", count_crossings=False))
                client.attach(grant.lease, geometry, umem)
                os.write(writing, repr((time.perf_counter() - start) * 1e3).encode())
            os._exit(0)
        os.close(writing)
        times.append(float(os.read(reading, 64)))
        os.close(reading)
        os.waitpid(pid, 0)
    return times


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def memory_use(bed: Bed, station: Station) -> dict[str, float]:
    """Resident MiB of the daemon and of the echo, its device memory included, when it has answered."""
    with nomx_echo(bed, "soft") as echo:
        until_answering(station, Target(APPLICATION, PORT), GENERATOR_CPU)
        return {"daemon": resident_mib(bed.pid), "application": resident_mib(echo.pid)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--round-trips", type=int, default=20_000)
    given = parser.parse_args()
    started, load = datetime.now(UTC), os.getloadavg()[0]
    udp_echo = peers.build(PEERS / "udp_echo.c", HERE.parents[1] / ".cache" / "peers")
    with Bed.open(INSTANCE, PREFIX) as bed, Station(bed.socket, f"{INSTANCE}st") as station:
        # First what is short, on a machine that has not been busy: the hypervisor slows one that has.
        launch, grant = launch_overhead(bed, 20), grants(bed, 50)
        with everyone(bed, station, udp_echo) as courses:
            rates = throughput(station, courses, given.seconds, given.repetitions)
            trips = round_trips(station, courses, given.round_trips, given.repetitions)
        result = {
            "command": " ".join(sys.argv),
            **vars(given),
            "date": started.isoformat(timespec="seconds"),
            "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release()},
            "python": platform.python_version(),
            "load_before": load,
            "packets_per_second": {name: asdict(Figure.of(values)) for name, values in rates.items()},
            "throughput_of_nomx_soft_over": ratios(rates),
            "round_trip_us": {
                quantile: {name: asdict(Figure.of(values)) for name, values in table.items()}
                for quantile, table in trips.items()
            },
            "p50_of_nomx_soft_over": ratios(trips["p50"]),
            "launch_ms": {name: asdict(Figure.of(values)) for name, values in launch.items()},
            "grant_ms": asdict(Figure.of(grant)),
            "resident_mib": memory_use(bed, station),
        }
    (HERE / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    (HERE / "README.md").write_text(report(result))
    say((HERE / "README.md").read_text())


def report(result: dict[str, Any]) -> str:
    """The result as the page that people read."""

    def figure(value: dict[str, float], form: str) -> str:
        return f"{value['median']:{form}} ({value['least']:{form}} to {value['greatest']:{form}})"

    ours = next(iter(CONTENDERS))
    machine, trips = result["machine"], result["round_trip_us"]
    lines = [
        "# 0001: first light",
        "",
        "Is an application on a soft VF faster than the kernel's sockets, and what does the way there cost?",
        "",
        f"`{result['command']}` on {result['date']}: {machine['cores']} cores ({machine['cpu']}), Linux "
        f"{machine['kernel']}, Python {result['python']}; load before the run {result['load_before']:.1f}. "
        f"Medians of {result['repetitions']} rounds of all contenders in turn ({result['seconds']:g} s saturated, "
        f"{result['round_trips']:,} round trips), with the least and greatest in brackets; a ratio is of one round. "
        "One station, in a namespace of its own on CPU 0, drives them over two veths through the same switch; "
        "they share CPU 1, asleep but in their turn; nothing is traced.",
        "",
        "| UDP echo of 64-byte frames | packets/s | nomx soft over it | p50 µs | p99 µs |",
        "|---|---|---|---|---|",
    ]
    for name, rate in result["packets_per_second"].items():
        times = "1" if name == ours else figure(result["throughput_of_nomx_soft_over"][name], ".2f")
        latency = [figure(trips[q][name], ".1f") if name in trips[q] else "-" for q in ("p50", "p99")]
        lines.append(f"| {name} | {figure(rate, ',.0f')} | {times} | {latency[0]} | {latency[1]} |")
    blocking = result["p50_of_nomx_soft_over"]["C, recvfrom/sendto"]
    launch, resident = result["launch_ms"], result["resident_mib"]
    added = launch["nomx run"]["median"] - launch["python"]["median"]
    lines += [
        "",
        "| quantity | wanted | measured |",
        "|---|---|---|",
        f"| p50 round trip over the C blocking socket's | at most 0.5 | {figure(blocking, '.2f')} |",
        f"| `nomx run` of an empty script, beyond `python` | at most 150 ms | {added:.0f} ms |",
        f"| a grant of a soft VF | at most 30 ms (p50) | {figure(result['grant_ms'], '.1f')} ms |",
        f"| the daemon, resident | at most 60 MB | {resident['daemon'] * 1.048576:.0f} MB |",
        f"| the application, resident | at most 200 MB | {resident['application'] * 1.048576:.0f} MB |",
        "",
        "The numbers are this machine's on that day; the ratios are what may be claimed. `result.json` has them all.",
        "",
    ]
    return "\n".join(lines)


def ratios(values: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Ours over each other contender's, turn by turn."""
    ours, *others = values
    return {name: asdict(ratio(values[ours], values[name])) for name in others}


if __name__ == "__main__":
    main()
