"""What a run's end says: figures a packet, drops from both sides, and why it was not better."""

import json

import click
import msgspec
import pytest

from nomx.api.counters import NAMES
from nomx.api.lease import Crossings, Grant, LeaseRecord, LeaseSpec, LeaseStatus, Mode, Traffic, Verdict
from nomx_cli.output import number, size, table
from nomx_cli.summary import grant_lines, packets_of, path_and_mode, per_packet, report, report_lines, status_lines

COUNTERS = dict.fromkeys(NAMES, 0)
MODE = Mode(zerocopy=False, attach="native", need_wakeup=True, driver="veth", why="veth has no zero-copy")


def status(traffic: Traffic, crossings: Crossings | None, **fields: object) -> LeaseStatus:
    record = LeaseRecord("L7", 7, LeaseSpec(name="echo"), "soft", 0, 4321, 99, 0, "ended")
    common = {
        "cpus": "0-1",
        "exclusive": False,
        "memory_limit_bytes": None,
        "memory_used_bytes": 3 << 20,
        "device": None,
    }
    whole = {"record": record, "state": "ended", "traffic": traffic, "crossings": crossings, "seconds": 2.0}
    return LeaseStatus(**(common | whole | fields))  # type: ignore[arg-type]


NO_VF = Verdict("vf", available=False, reason="no SR-IOV", remedy="buy one")
GRANT = Grant(lease="L7", path="soft", cpus="0-1", exclusive=False, memory_bytes=None, verdicts=(NO_VF,))
TRAFFIC = Traffic(
    rx_packets=1000, tx_packets=900, rx_bytes=64000, tx_bytes=57600, counted_at="xsk", drops={"rate": 3, "runt": 0}
)


def test_crossings_are_divided_by_the_larger_direction() -> None:
    assert packets_of(TRAFFIC, {}) == 1000
    assert per_packet(Crossings(syscalls=2000), 1000)["syscalls"] == 2.0


def test_the_library_knows_better_what_reached_the_application() -> None:
    assert packets_of(TRAFFIC, {**COUNTERS, "rx_packets": 500, "tx_packets": 500}) == 500


@pytest.mark.parametrize(("crossings", "packets"), [(None, 1000), (Crossings(syscalls=5), 0)])
def test_nothing_is_divided_where_nothing_was_counted(crossings: Crossings | None, packets: int) -> None:
    assert per_packet(crossings, packets) == {}


def test_drops_of_the_device_and_of_the_library_stand_together() -> None:
    told = report(GRANT, status(TRAFFIC, None), {**COUNTERS, "drop_udp_checksum": 2}, 0, None)
    assert told.drops == {"rate": 3, "udp_checksum": 2}
    assert "3 rate, 2 udp_checksum" in "\n".join(report_lines(told))


def test_a_start_tells_why_it_is_not_better() -> None:
    text = "\n".join(grant_lines(GRANT))
    assert "not vf: no SR-IOV" in text


def test_out_of_memory_is_told() -> None:
    told = report(GRANT, status(TRAFFIC, None, oom_kills=1), {}, 137, 9)
    assert "out of memory" in "\n".join(report_lines(told))
    assert "by signal 9" in "\n".join(report_lines(told))


def test_uncounted_crossings_are_told_with_the_reason() -> None:
    told = report(GRANT, status(TRAFFIC, None, uncounted="no BTF"), {}, 0, None)
    assert "not counted: no BTF" in "\n".join(report_lines(told))


def test_without_a_lease_the_library_is_believed() -> None:
    told = report(GRANT, None, {**COUNTERS, "rx_packets": 5, "tx_packets": 5}, 0, None)
    assert told.lease is None
    assert (told.traffic.rx_packets, told.traffic.counted_at) == (5, "library")


def test_the_keys_of_a_report_are_stable() -> None:
    told = json.loads(msgspec.json.encode(report(GRANT, status(TRAFFIC, Crossings()), COUNTERS, 0, None)))
    assert list(told) == [
        "lease", "path", "mode", "not_better", "exit_code", "signal", "seconds", "traffic", "crossings", "per_packet",
        "uncounted", "oom_kills", "counters",
    ]  # fmt: skip
    assert set(told["per_packet"]) == set(told["crossings"])


def test_a_status_is_told_whole() -> None:
    text = "\n".join(status_lines(status(TRAFFIC, Crossings(syscalls=31), state="granted", pids=(4321,))))
    assert "L7 (echo), granted" in text
    assert "a packet   0.031 system calls" in text


def test_modes_are_told_in_one_phrase() -> None:
    assert path_and_mode("soft", MODE) == "soft (veth, native XDP, copy mode)"
    assert path_and_mode("kernel", None) == "kernel (ordinary sockets)"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234567, "1,234,567"), (0.0314159, "0.0314"), (1234.5, "1,234"), (2.0, "2")]
)
def test_figures_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("bytes_", "text"), [(None, "-"), (512, "512 B"), (3 << 20, "3 MiB"), (5 << 40, "5 TiB")])
def test_sizes_are_written_in_binary_units(bytes_: int | None, text: str) -> None:
    assert size(bytes_) == text


def test_a_table_aligns_numbers_right_and_words_left() -> None:
    lines = [click.unstyle(line) for line in table(("NAME", "N"), [("a", 1), ("bcdef", 1000)])]
    assert lines == ["NAME       N", "a          1", "bcdef  1,000"]
