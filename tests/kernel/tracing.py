"""What tests of the tracer share: a program that does as it is told, and a trace of it that is read when they like."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nomx.trace import aggregate
from nomx.trace.report import CallLine, Sample, ThreadLine
from nomx.trace.snapshot import Snapshot
from nomx.trace.target import Target, process
from nomx.trace.tracer import Options, Tracer

_IN_READ = "0 "
_SETTLED_WITHIN_S = 10.0

WORKLOAD = Path(__file__).with_name("trace_workload.c")


def compiled(folder: Path) -> Path:
    """Compile the workload; the program."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    command = [compiler] if compiler else [sys.executable, "-m", "ziglang", "cc"]
    program = folder / "workload"
    subprocess.run([*command, "-O1", "-pthread", str(WORKLOAD), "-o", str(program)], check=True)
    return program


class Workload:
    """trace_workload.c running: `do("s100")` returns when it is done, and the program waits in read(2) again."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid

    def do(self, work: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(work.encode())
        assert self._process.stdout.read(1) == b"."
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while not Path(f"/proc/{self.pid}/syscall").read_text().startswith(_IN_READ):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def end(self) -> None:
        self._process.communicate(timeout=10)


@dataclass
class Traced:
    """A target being traced."""

    tracer: Tracer
    target: Target
    first: Snapshot

    def read(self) -> Snapshot:
        return self.tracer.read()[self.target.subject]

    def total(self) -> Sample:
        return aggregate.sample(self.first, self.first, self.read())

    def calls(self) -> dict[str, CallLine]:
        return {line.name: line for line in aggregate.call_lines(self.read())}

    def threads(self) -> tuple[ThreadLine, ...]:
        return aggregate.thread_lines(self.read())


@contextlib.contextmanager
def traced(pid: int, options: Options | None = None) -> Iterator[Traced]:
    target = process(pid)
    with Tracer([target], options or Options()) as tracer:
        yield Traced(tracer, target, tracer.start()[target.subject])
