"""A trace leaves nothing: no program, map, cgroup, mount or process, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomx.linux import cgroupfs
from nomx.linux.bpf import Program
from nomx.linux.libbpf import SONAME
from nomx.trace import pins
from nomx.trace.command import PREFIX, Command, sweep
from nomx.trace.target import process
from tests.kernel.tracing import Workload, traced

pytestmark = [pytest.mark.root, pytest.mark.feature("tp_btf")]

NOMX = [sys.executable, "-m", "nomx_cli.main", "trace"]
ONLY_A_TRACERS = "nomx_return"
"""A program that the daemon does not load."""
WITHIN_S = 15.0


def programs() -> set[int]:
    """The ids of tracers' programs that the kernel has (other sessions may run tracers, too)."""
    library = ctypes.CDLL(SONAME)
    ids, program = set(), ctypes.c_uint32(0)
    while library.bpf_prog_get_next_id(program, ctypes.byref(program)) == 0:
        try:
            found = Program.by_id(program.value)
        except OSError:
            continue  # it went meanwhile
        if found.name == ONLY_A_TRACERS:
            ids.add(found.id)
        os.close(found.fd)
    return ids


def groups_of(pid: int) -> list[str]:
    return [each.name for each in cgroupfs.hierarchies().unified.glob(f"{PREFIX}.{pid}.*")]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mounts() -> list[str]:
    """The mounts that a tracer could make."""
    kinds = ("tracefs", "debugfs", "bpf", "cgroup2")
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] in kinds]


def start(*words: str) -> subprocess.Popen[str]:
    """Start `nomx trace`, and return when it has shown its first interval."""
    tracer = subprocess.Popen([*NOMX, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tracer.stdout is not None
    assert "PACKETS/S" in tracer.stdout.readline()
    return tracer


def test_nothing_stays_when_a_trace_of_a_process_ends(workload: Workload) -> None:
    before, mounted = programs(), mounts()
    with traced(workload.pid):
        workload.do("s10")
        made = programs() - before
        assert made
    wait_for(lambda: not made & programs())
    assert mounts() == mounted
    assert not list(Path("/sys/fs/bpf").glob("nomx*")) if Path("/sys/fs/bpf").is_dir() else True


def test_nothing_stays_after_kill_9_of_a_trace_of_a_process(workload: Workload) -> None:
    before = programs()
    tracer = start(str(workload.pid), "-i", "0.2")
    made = programs() - before
    assert made
    tracer.kill()
    tracer.communicate()
    wait_for(lambda: not made & programs())
    workload.do("s10")  # the application goes on


def test_nothing_stays_after_a_command(program: Path) -> None:
    done = subprocess.run([*NOMX, "--", str(program), "s1000"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "getppid" in done.stdout
    assert not [each for each in cgroupfs.hierarchies().unified.glob(f"{PREFIX}.*") if not cgroupfs.processes(each)]


def test_after_kill_9_the_command_goes_on_and_its_cgroup_goes_with_it() -> None:
    before = programs()
    tracer = start("-i", "0.2", "--", "sleep", "60")
    (group,) = groups_of(tracer.pid)
    directory = cgroupfs.hierarchies().unified / group
    (command,) = cgroupfs.processes(directory)
    made = programs() - before
    tracer.kill()
    tracer.wait()  # the command has its pipes, so they stay open
    wait_for(lambda: not made & programs())
    assert cgroupfs.processes(directory) == (command,), "the command goes on"
    os.kill(command, signal.SIGTERM)
    tracer.communicate()
    wait_for(lambda: not directory.exists())


def test_ctrl_c_ends_the_trace_and_its_command() -> None:
    tracer = start("-i", "0.2", "--", "sleep", "60")
    (group,) = groups_of(tracer.pid)
    tracer.send_signal(signal.SIGINT)
    told, _ = tracer.communicate(timeout=30)
    assert tracer.returncode == 0
    assert "it was stopped" in told
    assert not (cgroupfs.hierarchies().unified / group).exists()


def test_what_a_killed_janitor_left_is_swept_by_the_next(program: Path) -> None:
    unified = cgroupfs.hierarchies().unified
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = unified / f"{PREFIX}.{gone.pid}.1.f"
    left.mkdir()
    mine = Command.start([str(program), "s1"])
    try:
        assert not left.exists()
        sweep(unified)
        assert mine.group.exists(), "a trace that runs keeps its own"
    finally:
        mine.go()
        mine.end()
        mine.close()
    assert not mine.group.exists()


def test_a_pin_is_there_until_it_is_taken_away(instance: str) -> None:
    if not os.path.ismount(pins.FOLDER):
        pytest.skip("the BPF file system is not mounted")
    group = cgroupfs.hierarchies().unified / f"{instance}.pinned"
    group.mkdir()
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        cgroupfs.move(group, sleeper.pid)
        target = process(sleeper.pid)
        assert target.group == group
        path = pins.pin(target)
        assert path.exists()
        assert pins.unpin(target.label)
        assert not pins.unpin(target.label)
        assert not path.exists()
    finally:
        sleeper.kill()
        sleeper.wait()
        group.rmdir()
