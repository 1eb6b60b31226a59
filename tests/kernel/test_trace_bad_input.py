"""What goes wrong around a trace is told with its reason and the next step; nothing hangs, nothing stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nomx.errors import InvalidRequest, LeaseClosed, NotPermitted, NotSupported
from nomx.linux import cgroupfs
from nomx.trace import gaps, pins
from nomx.trace.command import Command
from nomx.trace.session import open_session
from nomx.trace.target import Target, group_subject, process
from nomx.trace.tracer import Options, Tracer
from tests.kernel.tracing import Workload, traced

pytestmark = [pytest.mark.root, pytest.mark.feature("tp_btf")]

NOMX = [sys.executable, "-m", "nomx_cli.main"]
NOBODY = 65534


def nomx(*words: str, prefix: tuple[str, ...] = (), user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, *NOMX, "trace", *words], capture_output=True, text=True, timeout=60, user=user)


def no_such_pid() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_no_such_process() -> None:
    pid = no_such_pid()
    with pytest.raises(InvalidRequest, match=f"pid: {pid} is not acceptable; expected the pid of a running process"):
        process(pid)
    done = nomx(str(pid))
    assert done.returncode == 2
    assert str(pid) in done.stderr


def test_a_thread_is_no_process() -> None:
    hold = threading.Event()
    worker = threading.Thread(target=hold.wait)
    worker.start()
    try:
        with pytest.raises(InvalidRequest, match=f"it is a thread of process {os.getpid()}"):
            process(worker.native_id or 0)
    finally:
        hold.set()
        worker.join()


def test_a_process_that_ends_while_it_is_traced_ends_the_trace(program: Path) -> None:
    workload = Workload(program)
    session = open_session([process(workload.pid)], Options(), interval_s=30.0)
    with session.tracer:
        session.start()
        workload.do("s100")
        threading.Timer(0.3, workload.end).start()
        began = time.monotonic()
        samples = list(session.run())
        (report,) = session.reports()
    assert time.monotonic() - began < 10
    assert len(samples) == 1
    assert report.end == "every process of the target ended"
    assert {line.name: line.count for line in report.calls}["getppid"] == 100


def test_a_process_that_ended_before_the_start_is_no_hang(program: Path) -> None:
    workload = Workload(program)
    target = process(workload.pid)
    workload.end()
    session = open_session([target], Options())
    with session.tracer:
        session.start()
        list(session.run())
        (report,) = session.reports()
    assert report.total.crossings.total == 0


def test_without_a_capability_it_is_named() -> None:
    done = nomx(str(os.getpid()), user=NOBODY)
    assert done.returncode == 4
    assert "CAP_BPF and CAP_PERFMON missing" in done.stderr
    assert "sudo" in done.stderr


def test_one_missing_capability_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "has_capability", lambda number: number == gaps._NEEDED["CAP_BPF"])
    with pytest.raises(NotPermitted, match="CAP_PERFMON missing") as refused:
        gaps.check_permitted()
    assert "CAP_BPF missing" not in str(refused.value)


def test_without_btf_it_is_said(monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    monkeypatch.setattr(gaps, "_BTF", Path("/no/such/btf"))
    with pytest.raises(NotSupported, match="no BTF"):
        Tracer([process(workload.pid)], Options())


def test_a_missing_tracepoint_is_a_gap_and_no_failure(monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    changed = {**gaps.TRACEPOINTS, "nomx_fault_kernel": ("no_such_tracepoint", "faults in calls")}
    monkeypatch.setattr(gaps, "TRACEPOINTS", changed)
    with traced(workload.pid) as trace:
        workload.do("s10")
        assert trace.calls()["getppid"].count == 10
        assert any("no_such_tracepoint" in gap.reason for gap in trace.tracer.gaps)


def test_a_cgroup_that_is_deleted_ends_the_trace(instance: str) -> None:
    group = cgroupfs.hierarchies().unified / f"{instance}.traced"
    group.mkdir()
    sleeper = subprocess.Popen(["sleep", "60"])
    cgroupfs.move(group, sleeper.pid)
    target = process(sleeper.pid)
    assert target.group == group

    def end() -> None:
        sleeper.kill()
        sleeper.wait()
        cgroupfs.wait_unpopulated(group, time.monotonic_ns() + 5_000_000_000)
        group.rmdir()

    session = open_session([target], Options(), interval_s=0.2)
    with session.tracer:
        session.start()
        threading.Timer(0.5, end).start()
        list(session.run())
        (report,) = session.reports()
    assert report.end == "every process of the target ended"
    with pytest.raises(LeaseClosed, match="cgroup"):
        Tracer([Target("L9", 1, "lease", group=group)], Options())
    with pytest.raises(FileNotFoundError):
        group_subject(group)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nonsense",), "a lease (L1), a pid"),
        (("-i", "0", "1"), "at least 0.1 s"),
        (("-d", "-1", "1"), "more than 0 s"),
        (("1", "--", "true"), "not both"),
        (("--", "no-such-program-anywhere"), "a program that is found"),
        (("--user", "no-such-user", "--", "true"), "login name"),
        (("--flame", "/no/such/folder/x.svg", "1"), "a file that can be written"),
        (("--figure", "x.txt", "1"), "a file name ending in"),
        (("--packets", "moon", "--", "true"), "auto, lease, local or device:IFNAME"),
        (("--device", "nosuch0", str(os.getpid())), "a network device"),
        (("compare", "1"), "two targets"),
        (("compare", "a.json", "b.json"), "a file that can be read"),
        (("probe", "sys_enter"), "--lease, --pid or --everywhere"),
        (("probe", "no-such.c", "--everywhere"), "a file that can be read"),
    ],
)
def test_words_that_are_wrong_are_told(words: tuple[str, ...], told: str) -> None:
    done = nomx(*words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr.replace("\n", " ")


def test_a_saved_trace_that_is_none_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"reports": [{"target": 5}]}))
    done = nomx("explain", str(wrong))
    assert done.returncode == 2
    assert "what `nomx trace -j` wrote" in done.stderr


def test_a_program_that_the_kernel_cannot_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF not really")
    broken.chmod(0o755)
    command = Command.start([str(broken)])
    try:
        with pytest.raises(InvalidRequest, match="Exec format error"):
            command.go()
    finally:
        command.end()
        command.close()


def test_a_command_runs_as_the_user_asked_for() -> None:
    done = nomx("-j", "--user", "nobody", "--", "sh", "-c", "exec 1>&2; id -u")
    assert done.returncode == 0, done.stderr
    assert f"{NOBODY}\n" in done.stderr


def test_pinning_what_shares_its_cgroup_is_refused(workload: Workload) -> None:
    if not os.path.ismount(pins.FOLDER):
        pytest.skip("the BPF file system is not mounted")
    with pytest.raises(NotSupported, match="shares its cgroup"):
        pins.pin(process(workload.pid))


def test_millions_of_events_a_second_lose_no_count(program: Path) -> None:
    """Two processes that do nothing but call: what no buffer can hold is counted, and said to be lost."""
    calls = 2_000_000
    busy = [Workload(program) for _ in range(2)]
    targets = [process(each.pid) for each in busy]
    with Tracer(targets, Options(timeline=True, event_bytes=1 << 20)) as tracer:
        tracer.start()
        workers = [threading.Thread(target=each.do, args=(f"s{calls}",)) for each in busy]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        snapshots = tracer.read()
    for each, target in zip(busy, targets, strict=True):
        found = snapshots[target.subject]
        assert sum(call.ended for call in found.calls.values()) == calls + 1
        assert found.lost.events > 0
        assert found.lost.missed == 0
        each.end()
