"""What a lease did, told at its end (`nomx run`) or while it lives (`nomx lease show`): packets, crossings, drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nomx.api.lease import Crossings, DeviceGrant, Grant, LeaseStatus, Mode, Traffic, Verdict
from nomx_cli.output import number, size

WIDTH = 11


@dataclass(frozen=True)
class Report:
    """The end of a run, with the keys that `nomx run -j` promises."""

    lease: str | None
    """None on the kernel path without a daemon: nothing was handed out, and nothing is counted from outside."""
    path: str
    mode: Mode | None
    not_better: tuple[Verdict, ...]
    """Why not a higher path: one verdict for each."""
    exit_code: int
    signal: int | None
    seconds: float
    traffic: Traffic
    crossings: Crossings | None
    per_packet: dict[str, float]
    """Crossings by kind, divided as `packets_of` says: a request and its answer are one."""
    uncounted: str
    oom_kills: int
    counters: dict[str, int] = field(default_factory=dict)
    """What the application's I/O library counted itself (docs/reference/counters)."""

    @property
    def drops(self) -> dict[str, int]:
        """Frames that were not answered, by reason, wherever they were dropped."""
        own = {name.removeprefix("drop_"): count for name, count in self.counters.items() if name.startswith("drop_")}
        return {reason: count for reason, count in {**self.traffic.drops, **own}.items() if count}


def report(
    grant: Grant, status: LeaseStatus | None, counters: Mapping[str, int], exit_code: int, signal: int | None
) -> Report:
    """Put together what is known of a run that ended."""
    crossings = status.crossings if status else None
    traffic = status.traffic if status else _own_traffic(counters)
    return Report(
        lease=status.record.lease if status else None,
        path=grant.path,
        mode=grant.device.mode if grant.device else None,
        not_better=grant.verdicts,
        exit_code=exit_code,
        signal=signal,
        seconds=status.seconds if status else 0.0,
        traffic=traffic,
        crossings=crossings,
        per_packet=per_packet(crossings, packets_of(traffic, counters)),
        uncounted=status.uncounted if status else "without the status of a lease nobody counts from outside",
        oom_kills=status.oom_kills if status else 0,
        counters=dict(counters),
    )


def per_packet(crossings: Crossings | None, packets: int) -> dict[str, float]:
    """Divide each kind of crossing by *packets*; empty where either was not counted or is none."""
    if crossings is None or not packets:
        return {}
    return {kind: getattr(crossings, kind) / packets for kind in crossings.__struct_fields__}


def packets_of(traffic: Traffic, counters: Mapping[str, int]) -> int:
    """Give what crossings are divided by: the larger of the packets that the application received and sent.

    The library knows what reached the application. Without its word, what reached the rings or the
    sockets is taken, of which an overloaded socket drops some.
    """
    received_and_sent = (counters.get("rx_packets", 0), counters.get("tx_packets", 0))
    return max(received_and_sent) or max(traffic.rx_packets, traffic.tx_packets)


def _own_traffic(counters: Mapping[str, int]) -> Traffic:
    """Take the library's own word for the packets where nobody counted from outside."""
    if not counters:
        return Traffic()
    return Traffic(
        rx_packets=counters["rx_packets"],
        tx_packets=counters["tx_packets"],
        rx_bytes=counters["rx_bytes"],
        tx_bytes=counters["tx_bytes"],
        counted_at="library",
    )


def grant_lines(grant: Grant) -> list[str]:
    """Tell at the start what an application got, why not better, and what is not enforced."""
    device = grant.device
    where = f" at {device.ip4}" if device else ""
    lines = [
        _line(grant.lease or "no lease", f"path {path_and_mode(grant.path, device.mode if device else None)}{where}")
    ]
    lines += _why_not_better(device.mode if device else None, grant.verdicts)
    return lines + [_line("", f"not enforced: {each}") for each in grant.unenforced]


def report_lines(told: Report, unknown: str = "") -> list[str]:
    """Tell a report to people, one fact a line; *unknown* says why there is no status of a lease."""
    lines = [_line("path", path_and_mode(told.path, told.mode))]
    lines += _traffic_lines(told.traffic, told.seconds)
    lines += _crossing_lines(told.crossings, told.per_packet, told.uncounted)
    lines += _drop_lines(told.drops)
    if unknown and told.lease is None:
        lines.append(_line("lease", unknown))
    if told.oom_kills:
        lines.append(_line("memory", "the limit was reached and the kernel killed the application (out of memory)"))
    if told.signal is not None:
        lines.append(_line("ended", f"by signal {told.signal}"))
    elif told.exit_code:
        lines.append(_line("ended", f"with exit code {told.exit_code}"))
    return lines


def live_line(counters: Mapping[str, int], seconds: float) -> str:
    """Tell in one line what was counted in the last *seconds*."""
    drops = sum(count for name, count in counters.items() if name.startswith("drop_"))
    rates = ((counters["rx_packets"], "received"), (counters["tx_packets"], "sent"), (drops, "dropped"))
    return ", ".join(f"{number(count / seconds)}/s {what}" for count, what in rates)


def status_lines(status: LeaseStatus) -> list[str]:
    """Tell the status of a lease to people, one fact a line."""
    record, device = status.record, status.device
    named = f" ({record.spec.name})" if record.spec.name else ""
    limit = f", limit {size(status.memory_limit_bytes)}" if status.memory_limit_bytes else ""
    lines = [
        _line("lease", f"{record.lease}{named}, {status.state}{': ' + status.end_reason if status.end_reason else ''}"),
        _line("holder", f"pid {record.holder_pid}, uid {record.uid}; processes {list(status.pids)}"),
        _line("path", path_and_mode(record.path, device.mode if device else None)),
        _line("cores", f"CPU {status.cpus}{' (exclusive)' if status.exclusive else ' (shared)'}"),
        _line("memory", f"{size(status.memory_used_bytes)} used{limit}"),
    ]
    if device:
        lines += _device_lines(device)
    lines += _traffic_lines(status.traffic, status.seconds)
    lines += _crossing_lines(
        status.crossings, per_packet(status.crossings, packets_of(status.traffic, {})), status.uncounted
    )
    return lines + _drop_lines(status.traffic.drops)


def path_and_mode(path: str, mode: Mode | None) -> str:
    """Say which path it was and in which mode, in one phrase."""
    if mode is None:
        return f"{path} (ordinary sockets)"
    copy = "zero-copy" if mode.zerocopy else "copy mode"
    return f"{path} ({mode.driver}, {mode.attach} XDP, {copy})"


def _line(heading: str, text: str) -> str:
    return f"{heading:{WIDTH}}{text}"


def _why_not_better(mode: Mode | None, verdicts: tuple[Verdict, ...]) -> list[str]:
    lines = [_line("", f"not better: {mode.why}")] if mode and mode.why else []
    for verdict in verdicts:
        reason = "it is there, but was not asked for" if verdict.available else verdict.reason
        lines.append(_line("", f"not {verdict.path}: {reason}"))
    return lines


def _device_lines(device: DeviceGrant) -> list[str]:
    umem_bytes = device.umem.slice_bytes * device.queues
    return [
        _line("device", f"{device.unit} {device.ifname}, {device.queues} queues, UMEM {size(umem_bytes)}"),
        _line("address", f"{device.ip4}/{device.prefix_len}, {device.ip6}, {device.mac}, MTU {device.mtu_bytes}"),
    ]


def _traffic_lines(traffic: Traffic, seconds: float) -> list[str]:
    if not traffic.counted_at:
        return []
    lines = []
    for heading, packets, bytes_ in (
        ("received", traffic.rx_packets, traffic.rx_bytes),
        ("sent", traffic.tx_packets, traffic.tx_bytes),
    ):
        rate = f", {number(packets / seconds)}/s over {seconds:.1f} s" if seconds and packets else ""
        lines.append(_line(heading, f"{number(packets)} packets, {size(bytes_)}{rate}"))
    return lines


def _crossing_lines(crossings: Crossings | None, shares: Mapping[str, float], uncounted: str) -> list[str]:
    if crossings is None:
        return [_line("crossings", f"not counted: {uncounted}")] if uncounted else []
    kinds = crossings.__struct_fields__
    lines = [_line("crossings", ", ".join(f"{number(getattr(crossings, kind))} {_words(kind)}" for kind in kinds))]
    if shares:
        told = ", ".join(f"{number(shares[kind])} {_words(kind)}" for kind in kinds)
        lines.append(_line("a packet", f"{told} (start and end of the application included)"))
    return lines


def _words(kind: str) -> str:
    return kind.replace("_", " ").replace("syscalls", "system calls").replace("napi", "NAPI")


def _drop_lines(drops: Mapping[str, int]) -> list[str]:
    told = ", ".join(f"{number(count)} {reason}" for reason, count in drops.items() if count)
    return [_line("drops", told)] if told else []
