"""Reports compared, explained and exported: from figures made up, without a kernel."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from nomx.errors import InvalidRequest
from nomx.linux.abi_trace import EVENT, EventKind, SampleWhere
from nomx.linux.symbols import Symbols
from nomx.trace import aggregate, explain, flame, stacks, table, timeline
from nomx.trace.compare import compare
from nomx.trace.report import (
    KINDS,
    CallLine,
    Crossings,
    DeviceWork,
    Lost,
    Packets,
    Report,
    Sample,
    StackLine,
    ThreadLine,
    Times,
    Xsk,
)

BUCKETS = (0,) * 32


def sample(at: float = 0.0, seconds: float = 1.0, packets: int = 1000, **counts: int) -> Sample:
    crossings = Crossings(**{kind: counts[kind] for kind in KINDS if kind in counts})
    times = Times(**{name: counts[name] for name in Times.__struct_fields__ if name in counts})
    return Sample(at, seconds, crossings, times, Packets(rx=packets, tx=packets))


def call(name: str, count: int, *, xsk: bool = False, cpu_ns: int = 0, again: int = 0) -> CallLine:
    return CallLine(name, xsk, count, 0, again, again, cpu_ns, cpu_ns, BUCKETS)


def xsk(**fields: int | bool) -> Xsk:
    plain = dict.fromkeys(Xsk.__struct_fields__, 0)
    return Xsk(**{**plain, "zerocopy": True, "need_wakeup": True, "tx_budget": 32, **fields})  # type: ignore[arg-type]


def report(total: Sample | None = None, samples: tuple[Sample, ...] = (), **fields: object) -> Report:
    whole = total or sample()
    plain = {
        "target": "L1",
        "kind": "lease",
        "path": "soft",
        "packets_at": "lease (xsk)",
        "end": "it was stopped",
        "total": whole,
        "samples": samples or (whole,),
        "calls": (),
        "threads": (),
        "cpus": (),
        "devices": (),
        "work": DeviceWork(),
        "xsks": (),
    }
    return Report(**{**plain, **fields})  # type: ignore[arg-type]


def causes(told: Report) -> list[str]:
    return [cause.cause for cause in explain.explain(told)]


def test_per_packet_is_by_the_larger_direction() -> None:
    one = Sample(0, 2, Crossings(syscalls=300), Times(), Packets(rx=100, tx=50))
    assert one.per_packet(one.crossings.syscalls) == 3.0
    assert one.rate(300) == 150.0
    assert Sample(0, 1, Crossings(), Times(), Packets()).per_packet(5) is None


def test_a_report_is_read_back_as_it_was_written() -> None:
    told = report(calls=(call("sendto", 3),), xsks=(xsk(),), lost=Lost(threads=2))
    assert msgspec.json.decode(msgspec.json.encode(told), type=Report) == told


@pytest.mark.parametrize(
    ("buckets", "share", "low", "high"),
    [({10: 100}, 0.5, 1024, 2048), ({3: 50, 20: 50}, 0.99, 2**20, 2**21), ({31: 1}, 0.5, 2**31, 2**32)],
)
def test_quantiles_are_inside_their_bucket(buckets: dict[int, int], share: float, low: int, high: int) -> None:
    counts = [buckets.get(bucket, 0) for bucket in range(32)]
    found = aggregate.quantile_ns(counts, share)
    assert found is not None
    assert low <= found <= high
    assert aggregate.quantile_ns([0] * 32, share) is None


def test_a_comparison_has_the_spread_of_whole_intervals() -> None:
    samples = tuple(sample(at=at, packets=100 * (at + 1), syscalls=200 * (at + 1)) for at in range(3))
    rest = sample(at=3, seconds=0.1, packets=1, syscalls=1000)
    first, second = compare([report(samples=(*samples, rest)), report()], ["a", "b"])
    spread = first.values["packets_per_s"]
    assert spread is not None
    assert (spread.low, spread.median, spread.high, spread.intervals) == (100, 200, 300, 3)
    assert first.values["syscalls"] is not None
    assert first.values["syscalls"].high == 2.0
    assert second.label == "b"


def test_a_comparison_needs_two() -> None:
    with pytest.raises(InvalidRequest, match="two targets"):
        compare([report()])
    with pytest.raises(InvalidRequest, match="2 labels"):
        compare([report(), report()], ["a"])


def test_without_packets_there_is_nothing_per_packet() -> None:
    column, _ = compare([report(sample(packets=0)), report()])
    assert column.values["crossings"] is None


def test_quiet_reports_have_no_cause() -> None:
    assert causes(report()) == []


def test_one_packet_a_call_is_told_with_its_calls() -> None:
    told = report(calls=(call("recvfrom", 1000, cpu_ns=700), call("sendto", 1000, cpu_ns=300)))
    (receives, sends) = explain.explain(msgspec.structs.replace(told, total=sample(call_ns=100, user_ns=900)))
    assert "receives packets one at a time" in receives.cause
    assert "1,000 recvfrom for 1,000 packets" in receives.evidence
    assert "recvmmsg" in receives.remedy
    assert receives.share_pct == 70.0
    assert "sends" in sends.cause


def test_event_loops_allocators_and_locks_are_told() -> None:
    assert "readiness" in causes(report(calls=(call("epoll_wait", 1000),)))[0]
    assert "takes memory" in causes(report(calls=(call("mmap", 100), call("munmap", 100))))[0]
    assert "hand packets" in causes(report(calls=(call("futex", 500),)))[0]
    assert "clock" in causes(report(calls=(call("clock_gettime", 500),)))[0]
    assert "spins on recvfrom" in "".join(causes(report(calls=(call("recvfrom", 900, again=800),))))


def test_the_transmit_budget_is_told_apart_from_small_batches() -> None:
    full = report(sample(packets=3200), calls=(call("sendto", 100, xsk=True),), xsks=(xsk(zerocopy=False),))
    assert any("transmit budget" in cause for cause in causes(full))
    small = report(sample(packets=200), calls=(call("sendto", 100, xsk=True),), xsks=(xsk(zerocopy=False),))
    assert any("batches are small" in cause for cause in causes(small))
    assert not any("transmit budget" in cause for cause in causes(small))


def test_copy_mode_need_wakeup_and_rings_are_told() -> None:
    told = report(
        calls=(call("sendto", 1000, xsk=True), call("poll", 900, xsk=True)),
        xsks=(xsk(zerocopy=False, need_wakeup=False, rx_ring_full=7, fill_ring_empty=3),),
    )
    found = "\n".join(causes(told))
    for word in ("copied", "without need_wakeup", "runs dry", "receive ring full", "fill ring was empty"):
        assert word in found
    assert not any("copied" in cause for cause in causes(report(xsks=(xsk(),))))


def test_shared_cores_faults_and_stolen_time_are_told() -> None:
    thread = ThreadLine(1, 1, "t", True, 0, Crossings(), Times(), kernel_faults=500, major_faults=0, migrations=100)
    total = sample(involuntary_switches=100, page_faults=200, stolen_ns=300, user_ns=700, napi_polls=10)
    found = "\n".join(causes(report(total, threads=(thread,), work=DeviceWork(own_polls=9), affinity="0-1")))
    for word in ("cores are shared", "move between cores", "no page yet", "polled on the cores"):
        assert word in found
    elsewhere = DeviceWork(own_polls=1, full_polls=9)
    switched = "\n".join(causes(report(total, work=elsewhere)))
    assert "the soft path has no wire" in switched
    assert "saturated" in switched
    assert "softirqs of others" in "\n".join(causes(report(total, work=elsewhere, path="vf")))


def test_causes_are_sorted_by_their_share() -> None:
    told = report(
        sample(user_ns=100, call_ns=900), calls=(call("futex", 500, cpu_ns=100), call("mmap", 500, cpu_ns=800))
    )
    shares = [cause.share_pct for cause in explain.explain(told)]
    assert shares == sorted(shares, reverse=True)


def test_a_row_of_the_table_is_an_interval() -> None:
    file = io.StringIO()
    table.write(file, [report(samples=(sample(syscalls=5), sample(at=1.0, page_faults=2)))])
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["at_s"] for row in rows] == ["0.000000", "1.000000"]
    assert rows[0]["syscalls"] == "5"
    assert rows[1]["page_faults"] == "2"
    assert rows[0]["rx"] == "1000"


def event(kind: EventKind, detail: int = 0, call_kind: int = 0, tid: int = 7) -> bytes:
    return bytes(8) + EVENT.pack(1_000, 500, 1, kind, tid, 1, detail, call_kind)


def test_a_timeline_is_what_perfetto_reads() -> None:
    chunk = b"".join(
        [
            event(EventKind.CALL, 44, 1),
            event(EventKind.RUN, 1),
            event(EventKind.FAULT),
            event(EventKind.POLL, 64),
            event(EventKind.STOLEN, 3),
        ]
    )
    file = io.StringIO()
    thread = ThreadLine(7, 6, "worker", True, 0, Crossings(), Times(), 0, 0, 0)
    count = timeline.write(file, [report(threads=(thread,))], timeline.unpack([chunk]), dropped=3)
    told = json.loads(file.getvalue())
    assert told["otherData"]["dropped_events"] == 3
    assert len(told["traceEvents"]) == count
    slices = [entry for entry in told["traceEvents"] if entry["ph"] != "M"]
    assert [entry["cat"] for entry in slices] == ["syscall", "run", "fault", "poll", "softirq"]
    assert slices[0]["name"] == "sendto (AF_XDP)"
    assert (slices[0]["ts"], slices[0]["dur"]) == (1.0, 0.5)
    assert (slices[0]["pid"], slices[0]["tid"]) == (6, 7)
    assert slices[3]["args"]["frames"] == 64
    assert slices[4]["name"] == "softirq net_rx"


def test_a_timeline_without_events_is_valid() -> None:
    file = io.StringIO()
    timeline.write(file, [report()], [], dropped=0)
    assert json.loads(file.getvalue())["traceEvents"]


SYMBOLS = Symbols([100, 200, 300], ["low", "middle", "high"])


def test_stacks_are_named_outermost_first() -> None:
    samples = [
        (1, SampleWhere.KERNEL, (350, 250), 3),
        (1, SampleWhere.USER, (), 2),
        (2, SampleWhere.USER, (), 9),
        (0, SampleWhere.NET_RX, (110,), 1),
    ]
    lines = stacks.stack_lines(samples, 1, "app", SYMBOLS)
    assert lines[0] == StackLine(("app", "middle", "high"), 3)
    assert StackLine((stacks.NET_RX, "low"), 1) in lines
    assert sum(line.samples for line in lines) == 6, "the other subject's are not ours"
    functions = {line.name: line for line in stacks.function_lines(lines)}
    assert (functions["middle"].self_samples, functions["middle"].total_samples) == (0, 3)
    assert functions["high"].self_samples == 3


def test_stacks_of_targets_traced_together_have_softirqs_once() -> None:
    one = StackLine(("one", "low"), 1)
    two = StackLine(("two", "low"), 5)
    softirq = StackLine((stacks.NET_RX, "low"), 3)
    assert stacks.together([(one, softirq), (softirq, two)]) == (two, softirq, one)


def test_traces_are_drawn_side_by_side(tmp_path: Path) -> None:
    figures = pytest.importorskip("nomx.trace.figures")
    pytest.importorskip("matplotlib")
    one = report(samples=(sample(syscalls=10), sample(at=1.0, packets=0)))
    figures.draw_intervals([one, one], tmp_path / "two.svg")
    assert "packets at lease (xsk)" in (tmp_path / "two.svg").read_text()
    assert ET.parse(tmp_path / "two.svg").getroot().tag.endswith("svg")


def test_symbols_are_read_by_address(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000010 T first\n0000000000000020 t second [veth]\n0000000000000018 d data\n")
    symbols = Symbols.read(path)
    assert [symbols.name(address) for address in (0x10, 0x1F, 0x20, 0x5)] == ["first", "first", "second", "0x5"]
    path.write_text("0000000000000000 T hidden\n")
    with pytest.raises(PermissionError, match="kptr_restrict"):
        Symbols.read(path)


def test_a_flame_graph_is_well_formed_whatever_the_names() -> None:
    lines = [StackLine(("a<b>&", "f;g", "h"), 90), StackLine(("a<b>&", "x"), 10)]
    drawn, folded = io.StringIO(), io.StringIO()
    flame.write_svg(drawn, lines, "title & <more>")
    flame.write_folded(folded, lines)
    root = ET.fromstring(drawn.getvalue())
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "h: 90 samples, 90.0 %" in titles
    assert "all: 100 samples, 100.0 %" in titles
    assert folded.getvalue().splitlines()[0] == "a<b>&;f:g;h 90"


def test_a_flame_graph_of_nothing_says_so() -> None:
    drawn = io.StringIO()
    flame.write_svg(drawn, [], "nothing")
    assert "no samples" in drawn.getvalue()
    ET.fromstring(drawn.getvalue())
