"""The tracer agrees with strace and perf about real programs, call by call."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nomx.trace.command import Command
from nomx.trace.report import Report
from nomx.trace.session import open_session
from nomx.trace.tracer import Options

pytestmark = [pytest.mark.root, pytest.mark.feature("tp_btf")]

PROGRAMS = {
    "find": ["/usr/bin/find", "/usr/share/doc", "-maxdepth", "2", "-name", "no such file"],
    "python": ["/usr/bin/python3", "-S", "-E", "-B", "-c", "import json, socket, os; os.wait() if os.fork() else 0"],
    "shell": ["/bin/sh", "-c", "for i in 1 2 3 4 5; do /bin/true; /bin/echo $i >/dev/null; done"],
}
NEVER_SHOWN = {"exit_group", "exit"}
"""Calls that do not return, which strace -c and perf trace -s leave out."""

DIFFERENT_IN_PERF = {"clone", "fork", "vfork", "set_robust_list"}
"""perf counts the return into the child as a call, too, and may miss a child's first calls."""


@pytest.fixture(params=list(PROGRAMS))
def argv(request: pytest.FixtureRequest) -> list[str]:
    command = PROGRAMS[request.param]
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # so that all runs find their files cached
    return command


PERF = "perf trace --sort-events -m 4096 -s"
"""perf pairs an entry with a return only in that order, so it sorts; and with room for all events it loses none."""

UNPAIRED = 0.01
"""The share of calls that perf leaves out all the same, when a return is read before its entry."""


def counted_by_us(argv: list[str]) -> dict[str, tuple[int, int]]:
    report = report_of(argv)
    assert not report.lost.any
    return {line.name: (line.count, line.errors) for line in report.calls if line.name not in NEVER_SHOWN}


def report_of(argv: list[str]) -> Report:
    command = Command.start(argv)
    session = open_session([command.target], Options())
    with session.tracer:
        session.start()
        command.go()
        for _ in session.run():
            pass
        (report,) = session.reports()
    command.end()
    command.close()
    return report


def rows_of(text: str, pattern: str) -> dict[str, tuple[int, int]]:
    found = (re.fullmatch(pattern, line.strip()) for line in text.splitlines())
    return {match["name"]: (int(match["calls"]), int(match["errors"] or 0)) for match in found if match}


def test_strace_counts_the_same(argv: list[str], tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    told = tmp_path / "strace"
    subprocess.run(["strace", "-c", "-f", "-o", told, *argv], stdout=subprocess.DEVNULL, check=True)
    pattern = r"[\d.]+ +[\d.]+ +\d+ +(?P<calls>\d+) +(?P<errors>\d+)? *(?P<name>(?!total)\w+)"
    theirs = rows_of(told.read_text(), pattern)
    ours = counted_by_us(argv)
    assert theirs
    assert ours == theirs


def test_perf_trace_counts_the_same(argv: list[str], tmp_path: Path) -> None:
    if shutil.which("perf") is None or shutil.which("unshare") is None:
        pytest.skip("perf is not installed")
    told = tmp_path / "perf"
    script = f'mount -t tracefs none /sys/kernel/tracing && exec {PERF} -o {told} -- "$@"'
    ran = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *argv], capture_output=True, text=True)
    if ran.returncode or not told.exists():
        pytest.skip(f"perf trace does not run here: {ran.stderr.strip()}")
    theirs: dict[str, tuple[int, int]] = {}
    pattern = r"(?P<name>\w+) +(?P<calls>\d+) +(?P<errors>\d+) +[\d.]+ .*"
    for process in told.read_text().split(" events, ")[1:]:
        for name, (calls, errors) in rows_of(process, pattern).items():
            known = theirs.get(name, (0, 0))
            theirs[name] = known[0] + calls, known[1] + errors
    ours = counted_by_us(argv)
    both = theirs.keys() & ours.keys() - DIFFERENT_IN_PERF
    assert len(both) > 5
    for name in both:
        counted = ours[name][0]
        assert -2 <= counted - theirs[name][0] <= max(2, UNPAIRED * counted), name
