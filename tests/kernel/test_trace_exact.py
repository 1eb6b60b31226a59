"""The tracer counts to the last one what a program does a known number of times."""

from __future__ import annotations

import platform
import resource
import threading
import time
from pathlib import Path

import pytest

from nomx.linux.abi_trace import EventKind
from nomx.trace import gaps, timeline
from nomx.trace.command import Command
from nomx.trace.session import open_session
from nomx.trace.target import process
from nomx.trace.tracer import Options, Tracer
from tests.kernel.tracing import Workload, traced

pytestmark = [pytest.mark.root, pytest.mark.feature("tp_btf")]


def test_ten_thousand_calls_are_ten_thousand(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("s10000")
        calls = trace.calls()
        assert calls["getppid"].count == 10_000
        assert sum(calls["getppid"].wall_log2_ns) == 10_000
        assert trace.total().crossings.syscalls == sum(line.count for line in trace.calls().values())


def test_ten_thousand_packets_at_the_calls(workload: Workload) -> None:
    workload.do("o1")
    with traced(workload.pid) as trace:
        workload.do("u10000")
        calls, total = trace.calls(), trace.total()
        assert (calls["sendto"].count, calls["recvfrom"].count) == (10_000, 10_000)
        assert (total.packets.tx, total.packets.rx) == (10_000, 10_000)
        assert total.packets.tx_bytes == 640_000
        assert not calls["sendto"].xsk
        assert total.per_packet(calls["sendto"].count) == 1.0


def test_a_thousand_faults_are_a_thousand(workload: Workload) -> None:
    workload.do("f1")
    with traced(workload.pid) as trace:
        workload.do("f1000")
        (thread,) = trace.threads()
        assert trace.total().crossings.page_faults == 1000
        assert thread.crossings.page_faults == 1000
        assert thread.kernel_faults == 0


def test_faults_inside_a_call_are_no_crossings(workload: Workload) -> None:
    workload.do("k1")
    with traced(workload.pid) as trace:
        workload.do("k1000")
        (thread,) = trace.threads()
        assert thread.crossings.page_faults == 0
        assert thread.kernel_faults == 1000


def test_children_are_followed_and_ended_ones_kept(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("p50")
        calls = trace.calls()
        assert calls["getppid"].count == 500
        assert calls["exit_group"].count == 50
        threads = trace.threads()
        assert len(threads) == 51
        assert sum(not line.alive for line in threads) == 50
        assert sum(line.crossings.syscalls for line in threads) == trace.total().crossings.syscalls


def test_threads_come_and_go(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("t50")
        assert trace.calls()["getppid"].count == 500
        assert sum(line.crossings.syscalls == 0 for line in trace.threads()) == 0
        assert len({line.tgid for line in trace.threads()}) == 1


def test_more_threads_than_there_is_room_for_are_told(workload: Workload) -> None:
    with traced(workload.pid, Options(max_threads=8)) as trace:
        workload.do("p50")
        now = trace.read()
        assert now.lost.threads > 0
        assert now.crossings.syscalls >= 50 * 11, "the totals lose nothing"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has 32-bit calls by int 0x80")
def test_calls_of_the_32_bit_table_have_their_own_names(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("c1000")
        calls = trace.calls()
        assert calls["getpid (32-bit)"].count == 1000
        assert "getpid" not in calls


def test_calls_that_signals_interrupt_are_counted_once_each(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("i20")
        calls = trace.calls()
        assert calls["clock_nanosleep"].count == 20
        assert calls["clock_nanosleep"].errors == 20
        assert calls["rt_sigreturn"].count == 20


def test_waits_are_voluntary_switches_and_no_cpu_time(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        workload.do("w100")
        sleep = trace.calls()["clock_nanosleep"]
        assert sleep.count == 100
        assert trace.total().crossings.voluntary_switches >= 100
        assert sleep.wall_ns >= 100 * 100_000
        assert sleep.cpu_ns < sleep.wall_ns / 2


def test_what_has_nothing_for_it_is_told_apart(workload: Workload) -> None:
    workload.do("o1")
    with traced(workload.pid) as trace:
        workload.do("e1000")
        receive = trace.calls()["recvfrom"]
        assert (receive.count, receive.errors, receive.again) == (1000, 1000, 1000)
        assert trace.total().packets.count == 0


def test_switches_are_the_kernels_own_count(program: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = Command.start([str(program), "w50", "s20000", "f500"])
    session = open_session([command.target], Options(), interval_s=1.0)
    with session.tracer:
        session.start()
        command.go()
        for _ in session.run():
            pass
        (report,) = session.reports()
    command.end()
    command.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The kernel counts from the fork on; until `go` the child slept at most twice.
    kernel = after.ru_nvcsw - before.ru_nvcsw
    assert 0 <= kernel - report.total.crossings.voluntary_switches <= 4
    assert report.end.startswith("every process")
    assert {line.name: line.count for line in report.calls}["execve"] == 1
    assert {line.name: line.count for line in report.calls}["exit_group"] == 1


def on_cpu_ns(pid: int) -> int:
    """The kernel's own count, brought up to date at every tick."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


TICK_NS = 10_000_000


def test_time_on_a_cpu_is_the_kernels_own_count(workload: Workload) -> None:
    with traced(workload.pid) as trace:
        before = on_cpu_ns(workload.pid)
        workload.do("b1000")
        times = trace.total().times
        assert times.on_cpu_ns == pytest.approx(on_cpu_ns(workload.pid) - before, rel=0.02, abs=TICK_NS)
        assert times.user_ns > 20 * times.call_ns


def test_a_running_thread_is_seen_before_its_first_event(workload: Workload) -> None:
    worker = threading.Thread(target=workload.do, args=("b3000",))
    worker.start()
    time.sleep(0.2)
    with traced(workload.pid) as trace:
        before = on_cpu_ns(workload.pid)
        time.sleep(1.0)
        total, now = trace.total(), on_cpu_ns(workload.pid)
        assert total.crossings.syscalls == 0
        assert total.times.user_ns + total.times.stolen_ns == pytest.approx(now - before, rel=0.05, abs=2 * TICK_NS)
    worker.join()


def test_two_targets_are_told_apart(program: Path) -> None:
    one, two = Workload(program), Workload(program)
    targets = [process(one.pid), process(two.pid)]
    with Tracer(targets, Options()) as tracer:
        tracer.start()
        one.do("s100")
        two.do("s300")
        snapshots = tracer.read()
        counts = [
            sum(call.ended for (number, _), call in snapshots[target.subject].calls.items() if number == 110)
            for target in targets
        ]
        assert counts == [100, 300]
    one.end()
    two.end()


def test_two_tracers_count_the_same(workload: Workload) -> None:
    with traced(workload.pid) as first, traced(workload.pid) as second:
        workload.do("s5000")
        assert first.calls()["getppid"].count == second.calls()["getppid"].count == 5000


def test_every_event_is_in_the_timeline(workload: Workload) -> None:
    with traced(workload.pid, Options(timeline=True)) as trace:
        workload.do("s5000")
        workload.do("f100")
        trace.read()
        events = list(timeline.unpack([trace.tracer.events()]))
        calls = [event for event in events if event.kind == EventKind.CALL and event.detail == 110]
        assert len(calls) == 5000
        assert sum(event.kind == EventKind.FAULT and not event.detail for event in events) >= 100
        assert all(event.tid == workload.pid for event in calls)
        starts = [event.start_ns for event in calls]
        assert starts == sorted(starts)


def test_events_without_room_are_counted_as_lost(workload: Workload) -> None:
    with traced(workload.pid, Options(timeline=True, event_bytes=1 << 16)) as trace:
        workload.do("s50000")
        now = trace.read()
        kept = list(timeline.unpack([trace.tracer.events()]))
        assert now.lost.events > 40_000
        assert len(kept) + now.lost.events >= 50_000
        assert trace.calls()["getppid"].count == 50_000, "counts lose nothing"


def test_softirqs_may_be_left_out_and_the_report_says_so(workload: Workload) -> None:
    with traced(workload.pid, Options(softirqs=False)) as trace:
        workload.do("s1000")
        assert trace.calls()["getppid"].count == 1000
        assert trace.total().times.stolen_ns == 0
        assert gaps.LEFT_OUT in trace.tracer.gaps
