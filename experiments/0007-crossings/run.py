"""What do kernel crossings cost, by path; and what does counting them cost?

Run as root, on a machine that is otherwise idle: `python experiments/0007-crossings/run.py`, or one
part at a time (`run.py cost`, `strace`, `echo`, `receive`, `transmit`). Each part replaces its own
numbers in result.json; README.md is written anew from all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from page import page

from nomx.alloc import names
from nomx.api.lease import LeaseStatus
from nomx.bench import peers
from nomx.bench.compare import Figure, alternate, ratio
from nomx.bench.generator import saturate
from nomx.bench.roundtrip import measure
from nomx.bench.station import Course, Station, Target, Unreachable
from nomx.client.connection import Client
from nomx.errors import NomxError
from nomx.trace import target as targets
from nomx.trace.command import Command
from nomx.trace.compare import QUANTITIES
from nomx.trace.report import Report
from nomx.trace.session import Session, open_session
from nomx.trace.tracer import Options
from nomx.wire.ethernet import parse_mac

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
NOMX = str(Path(sys.executable).with_name("nomx"))
INSTANCE = "nomxx0007"
PREFIX = "10.95.0.0/24"
HOST, APPLICATION, PORT = "10.95.0.1", "10.95.0.99", 7000
STATION_PORT = 40_000
STATION_CPU, SERVER_CPU = 0, 1
SOCKET = Path("/run", INSTANCE, "nomxd.sock")
DEADLINE_S = 180.0
"""The first start compiles the loop for an instance of its own."""

T = TypeVar("T")

UDP_HEADERS = 14 + 20 + 8
LOW_PPS = 20_000
LOADS: dict[str, tuple[int, float | None]] = {
    "64 B, saturated": (64, None),
    "1,400 B, saturated": (1400, None),
    f"64 B, {LOW_PPS:,} /s": (64, LOW_PPS),
}
"""Bytes of a frame, and frames a second that are offered (None: as many as a core sends)."""

TRACERS = {"nomx trace": Options(), "nomx trace --no-softirqs": Options(softirqs=False)}

WARM_PACKETS = 200_000
"""Sent on the soft path before it is traced: the first ones compile."""

CALLS = 200_000
"""read(2) and write(2) each, of the work that strace is compared on."""


@dataclass(frozen=True)
class Contender:
    """A program and the works it can do. Either a peer's *kind*, or a *wait* strategy on the soft path."""

    kind: str = ""
    wait: str = ""
    works: tuple[str, ...] = ("echo", "receive", "transmit")

    @property
    def address(self) -> str:
        return APPLICATION if self.wait else HOST


CONTENDERS = {
    "socket, one at a time": Contender("one"),
    "socket, recvmmsg/sendmmsg": Contender("batch"),
    "socket, epoll": Contender("epoll", works=("echo", "receive")),
    "socket, io_uring": Contender("uring"),
    "socket, asyncio": Contender("asyncio", works=("echo",)),
    "AF_XDP copy, spin": Contender(wait="spin"),
    "AF_XDP copy, interrupt": Contender(wait="interrupt", works=("echo", "receive")),
    "AF_XDP copy, busy-poll": Contender(wait="busy-poll", works=("echo", "receive")),
}


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """A daemon of our own."""
    command = [sys.executable, "-m", "nomx.daemon", "--instance", INSTANCE, "--prefix", PREFIX]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(lambda: can_connect() or process.poll() is not None, "the daemon")
            yield
        finally:
            process.terminate()
            shutil.rmtree(Path("/var/cache", INSTANCE), ignore_errors=True)


def can_connect() -> bool:
    try:
        Client.connect(SOCKET).close()
    except NomxError:
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: nothing within {DEADLINE_S:.0f} s")
        time.sleep(0.02)


@contextlib.contextmanager
def on_soft_path(words: list[str], busy_poll: bool = False) -> Iterator[targets.Target]:
    """`nomx run` of *words* on a core of its own, uncounted by the daemon; the lease, to trace."""
    options = ["--path", "soft", "--cores", "1", "--user", "nobody", "--no-count", "--address", APPLICATION]
    command = [NOMX, "run", *options, *(["--busy-poll"] if busy_poll else []), *words]
    environment = os.environ | {"NOMX_SOCKET": str(SOCKET)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as launcher:
        try:
            wait_for(lambda: bool(running()) or launcher.poll() is not None, words[-1])
            held = running()
            if not held:
                sys.exit(f"{' '.join(command)} ended with {launcher.returncode}")
            (status,) = held
            yield targets.lease(status, INSTANCE, lambda: ask(lambda client: client.show(status.record.lease)))
        finally:
            launcher.send_signal(signal.SIGINT)
            launcher.wait(timeout=20)
            wait_for(lambda: not running(), "the end of a lease")


def running() -> list[LeaseStatus]:
    """The leases whose application runs."""
    return ask(lambda client: [status for status in client.leases() if status.pids])


def ask(question: Callable[[Client], T]) -> T:
    """Ask the daemon, which hangs up on who says nothing for a while."""
    with Client.connect(SOCKET) as client:
        return question(client)


@contextlib.contextmanager
def at_work(contender: Contender, work: str, station: Station, frame_bytes: int) -> Iterator[targets.Target]:
    """Have a contender do its work; what to trace."""
    own = station.unit
    if contender.wait and work == "transmit":
        sending = ["transmit", own.mac, own.ip4, str(STATION_PORT), str(frame_bytes)]
        with on_soft_path([str(HERE / "worker.py"), *sending]) as target:
            yield target
    elif contender.wait:
        app = ["-m", "nomx.apps.echo", "--port", str(PORT)] if work == "echo" else [str(HERE / "worker.py"), work]
        with on_soft_path([*app, "--wait", contender.wait], contender.wait == "busy-poll") as target:
            yield target
    else:
        more = [own.ip4, str(STATION_PORT), str(frame_bytes - UDP_HEADERS)] if work == "transmit" else []
        if contender.kind == "asyncio":
            command = [sys.executable, str(PEERS / "udp_echo.py"), "asyncio", HOST, str(PORT)]
        else:
            program = peers.build(PEERS / "udp_work.c", HERE.parents[1] / ".cache" / "peers")
            command = [str(program), contender.kind, work, HOST, str(PORT), *more]
        with peers.running(command, SERVER_CPU) as peer:
            yield targets.process(peer.pid, (names.host_ifname(INSTANCE),))


def until_answering(station: Station, address: str) -> Course:
    """Wait until the echo answers: it may still be compiling."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            course = station.resolve(Target(address, PORT))
            if measure(station, course, count=20, cpu=STATION_CPU, warm_up=0).lost < 20:
                return course
    sys.exit(f"{address} did not answer within {DEADLINE_S:.0f} s")


def until_resolved(station: Station, address: str) -> Course:
    """Wait until a program that does not answer can be reached."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            return station.resolve(Target(address, PORT))
    sys.exit(f"{address} was not there within {DEADLINE_S:.0f} s")


def trace(target: targets.Target, seconds: float) -> Report:
    """Trace *target* for a while."""
    session = open_session([target], Options(), interval_s=seconds, duration_s=seconds)
    with session.tracer:
        session.start()
        for _ in session.run():
            pass
        (report,) = session.reports()
    if report.lost.any:
        sys.exit(f"{target.label}: something was lost: {report.lost}")
    return report


def trace_under_load(
    target: targets.Target, station: Station, course: Course, load_name: str, seconds: float
) -> Report:
    """Offer requests from this thread, to which the station belongs, and trace meanwhile from another."""
    frame_bytes, offered_pps = LOADS[load_name]

    def work() -> Report:
        time.sleep(1.0)  # first trials, and a warm-up
        return trace(target, seconds)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(work)
        span_s = seconds + 1.5
        saturate(station, course, seconds=span_s, frame_bytes=frame_bytes, cpu=STATION_CPU, offered_pps=offered_pps)
        return found.result()


def traced_once(name: str, work: str, load_name: str, station: Station, seconds: float) -> Report:
    """Trace one contender at one work under one load."""
    contender, (frame_bytes, _) = CONTENDERS[name], LOADS[load_name]
    with at_work(contender, work, station, frame_bytes) as target:
        if work == "transmit":
            own = station.unit
            course = Course(Target(contender.address, PORT), 0, parse_mac(own.mac), own.ip4)
            with station.program("nomx_sink", course, frame_bytes):
                wait_for(lambda: target.traffic is None or target.traffic().tx_packets > WARM_PACKETS, name)
                time.sleep(0.5)
                return trace(target, seconds)
        wait = until_answering if work == "echo" else until_resolved
        course = wait(station, contender.address)
        return trace_under_load(target, station, course, load_name, seconds)


def table(work: str, station: Station, seconds: float, repetitions: int) -> dict[str, Any]:
    """Trace each contender at *work*: by load, then by contender, each quantity's figure."""
    found: dict[str, Any] = {}
    loads = [name for name, (_, offered_pps) in LOADS.items() if work != "transmit" or offered_pps is None]
    for load_name in loads:
        values: dict[str, dict[str, list[float]]] = {}
        for _ in range(repetitions):
            for name in (name for name, contender in CONTENDERS.items() if work in contender.works):
                report = traced_once(name, work, load_name, station, seconds)
                packets, whole_s = report.total.packets, report.total.seconds
                rates = f"{packets.rx / whole_s:,.0f} received, {packets.tx / whole_s:,.0f} sent a second"
                say(f"{work}, {load_name}, {name}: {rates}")
                for quantity in QUANTITIES:
                    value = quantity.value(report.total)
                    if value is not None:
                        values.setdefault(name, {}).setdefault(quantity.key, []).append(value)
        found[load_name] = {
            name: {key: asdict(Figure.of(each)) for key, each in columns.items()} for name, columns in values.items()
        }
    return found


@contextlib.contextmanager
def watched(target: targets.Target, options: Options) -> Iterator[None]:
    """Trace *target* while the block runs, as `nomx trace` does."""
    session: Session = open_session([target], options, interval_s=1.0)
    over = threading.Event()
    session.should_stop = over.is_set

    def work() -> None:
        for _ in session.run():
            pass

    with session.tracer:
        session.start()
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def cost(station: Station, seconds: float, repetitions: int) -> dict[str, Any]:
    """Throughput and p99 of the echo on the soft path, traced and not, in turn, of one running application."""
    with at_work(CONTENDERS["AF_XDP copy, spin"], "echo", station, 64) as target:
        course = until_answering(station, APPLICATION)

        def rate() -> float:
            return saturate(station, course, seconds=seconds, cpu=STATION_CPU).answered_pps

        def p99() -> float:
            return measure(station, course, count=20_000, cpu=STATION_CPU).p99_us

        def arms(work: Callable[[], float]) -> dict[str, Callable[[], float]]:
            def traced(options: Options) -> Callable[[], float]:
                def once() -> float:
                    with watched(target, options):
                        return work()

                return once

            return {"off": work} | {name: traced(options) for name, options in TRACERS.items()}

        values = {"packets_per_s": alternate(arms(rate), repetitions), "p99_us": alternate(arms(p99), repetitions)}
    return {
        key: {
            name: asdict(Figure.of(each)) | {"over_off": asdict(ratio(each, arm["off"]))} for name, each in arm.items()
        }
        for key, arm in values.items()
    }


def against_strace(repetitions: int) -> dict[str, Any]:
    """Seconds of a program that does nothing but system calls, by its own clock: alone, and under each tracer."""
    dd = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={CALLS}"]

    def own_seconds(text: str) -> float:
        told = re.search(r"copied, ([\d.e-]+) s", text)
        if told is None:
            sys.exit(f"dd said: {text}")
        return float(told[1])

    def ran(*before: str) -> Callable[[], float]:
        command = ["taskset", "-c", str(SERVER_CPU), *before, *dd]
        return lambda: own_seconds(subprocess.run(command, capture_output=True, text=True, check=True).stderr)

    def by_nomx() -> float:
        with tempfile.NamedTemporaryFile("r") as told:
            script = f"exec {' '.join(dd)} 2>{told.name}"
            command = Command.start(["taskset", "-c", str(SERVER_CPU), "sh", "-c", script])
            session = open_session([command.target], Options())
            with session.tracer:
                session.start()
                command.go()
                for _ in session.run():
                    pass
                (report,) = session.reports()
            command.end()
            command.close()
            counted = {line.name: line.count for line in report.calls}
            if min(counted["read"], counted["write"]) < CALLS:
                sys.exit(f"it counted {counted}")
            return own_seconds(told.read())

    contenders = {"alone": ran(), "nomx trace": by_nomx}
    if shutil.which("strace"):
        contenders["strace -c -f"] = ran("strace", "-c", "-f", "-o", "/dev/null")
    values = alternate(contenders, repetitions)
    return {
        "calls": 2 * CALLS,
        "seconds": {name: asdict(Figure.of(each)) for name, each in values.items()},
        "slow_down": {name: asdict(ratio(each, values["alone"])) for name, each in values.items()},
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def measured(part: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one part; its numbers, with when and on what."""
    about = {
        "command": f"{' '.join(sys.argv)}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release()},
        "load_before": os.getloadavg()[0],
        "repetitions": given.repetitions,
    }
    if part == "strace":
        return about | against_strace(given.repetitions)
    with daemon(), Station(SOCKET, f"{INSTANCE}st") as station:
        if part == "cost":
            return about | cost(station, given.seconds, given.repetitions)
        return about | {"loads": table(part, station, given.seconds, given.repetitions)}


def main() -> None:
    parts = ("cost", "strace", "echo", "receive", "transmit")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", choices=parts, default=None, help=f"{', '.join(parts)} (all)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--load", choices=list(LOADS), help="only this one, its numbers beside those of the others")
    given = parser.parse_args()
    if given.load:
        for name in [name for name in LOADS if name != given.load]:
            del LOADS[name]
    os.sched_setaffinity(0, {STATION_CPU})
    path = HERE / "result.json"
    for part in given.part or parts:
        result = json.loads(path.read_text()) if path.exists() else {}
        found = measured(part, given)
        if given.load and "loads" in found:
            found["loads"] = result.get(part, {}).get("loads", {}) | found["loads"]
        result[part] = found
        path.write_text(json.dumps(result, indent=2) + "\n")
        (HERE / "README.md").write_text(page(result))
    say((HERE / "README.md").read_text())


if __name__ == "__main__":
    main()
