"""The numbers of result.json as the page that people read. Called by run.py."""

from __future__ import annotations

from typing import Any

_COLUMNS = (
    ("packets_per_s", "packets/s"),
    ("syscalls", "syscalls"),
    ("voluntary_switches", "waits"),
    ("involuntary_switches", "preemptions"),
    ("napi_polls", "polls"),
    ("crossings", "crossings"),
    ("kernel_ns", "kernel ns"),
    ("user_ns", "user ns"),
    ("stolen_ns", "stolen ns"),
)
_WORKS = {
    "echo": "Echo (a request and its answer are one packet)",
    "receive": "Receive (nothing is answered)",
    "transmit": "Transmit (as fast as it goes, to a station that counts and drops)",
}


def page(result: dict[str, Any]) -> str:
    """Return README.md."""
    lines = [
        "# 0007: crossings",
        "",
        "What do kernel crossings cost, by path; and what does counting them cost?",
        "",
        "The definition of a crossing, and of the nanoseconds, is in `docs/explanation/crossings.md`. One station, in",
        "a namespace of its own on CPU 0, drives every contender on CPU 1 over two veths through the same switch, and",
        "the tracer reads on CPU 0. Repetitions in turn; medians, with the least and greatest in brackets.",
        "",
        *_about(result),
    ]
    if "cost" in result:
        lines += _cost(result["cost"])
    if "strace" in result:
        lines += _strace(result["strace"])
    for work, heading in _WORKS.items():
        for load, rows in result.get(work, {}).get("loads", {}).items():
            lines += [f"## {heading}: {load}", "", *_table(rows), ""]
            if not any(name.startswith("AF_XDP") for name in rows):
                lines += ["AF_XDP is not measured at this load yet.", ""]
    if not any("/s" in load for load in result.get("echo", {}).get("loads", {})):
        lines += ["The low load (`run.py echo --load '64 B, 20,000 /s'`) is not measured yet.", ""]
    lines += [
        "Kernel ns are of system calls and of the polls of the contender's own device on any CPU; what the switch and",
        "the station's device take of CPU 1 is in *stolen*. At saturation the polls move frames, too, that find a full",
        "ring or buffer, and their time is shared out over the packets that do not. AF_XDP is in",
        "copy mode: a veth has no zero-copy. Not measured: zero-copy (no such device here), memif and vhost-user (no",
        "such program here).",
        "",
        "The tracer is in all of these times; what it adds is in the first table. The numbers are this machine's on",
        "that day, with other work on it now and then; the ratios are what may be claimed. Crossings per packet",
        "hardly depend on it. `result.json` has them all.",
        "",
    ]
    return "\n".join(lines)


def _about(result: dict[str, Any]) -> list[str]:
    lines = []
    for part, found in result.items():
        machine = found["machine"]
        lines.append(
            f"- {part}: `{found['command']}`, {found['date']}, {found['repetitions']} repetitions; {machine['cores']} "
            f"cores ({machine['cpu']}), Linux {machine['kernel']}, load before {found['load_before']:.1f}"
        )
    return [*lines, ""]


def _figure(value: dict[str, float], form: str = ",.0f") -> str:
    return f"{value['median']:{form}} ({value['least']:{form}} to {value['greatest']:{form}})"


def _cost(cost: dict[str, Any]) -> list[str]:
    rates, trips = cost["packets_per_s"], cost["p99_us"]
    rows = [
        f"| {name} | {_figure(rates[name])} | {_figure(rates[name]['over_off'], '.3f')} "
        f"| {_figure(trips[name], '.1f')} | {_figure(trips[name]['over_off'], '.3f')} |"
        for name in rates
    ]
    return [
        "## What tracing costs on the soft path",
        "",
        "| UDP echo of 64-byte frames, one core that spins | packets/s, saturated | over off | p99 µs | over off |",
        "|---|---|---|---|---|",
        *rows,
        "| wanted | | at least 0.97 | | at most 1.05 |",
        "",
        "Off means that no program is loaded: `tests/kernel/test_trace_leftovers.py` proves it. Where the spread is",
        "wider than what is wanted, this run does not tell. What tracing does cost is softirqs: each frame that is",
        "sent in copy mode wakes one of its own and two polls behind it, and the tracer times them one by one.",
        "",
    ]


def _strace(strace: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {_figure(seconds, '.2f')} | {_figure(strace['slow_down'][name], '.2f')} |"
        for name, seconds in strace["seconds"].items()
    ]
    return [
        "## Against strace",
        "",
        f"`dd` of single bytes: {strace['calls']:,} system calls and hardly anything else, by its own clock.",
        "",
        "| | s | times as long |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _table(rows: dict[str, Any]) -> list[str]:
    lines = [f"| per packet | {' | '.join(heading for _, heading in _COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for name, values in rows.items():
        cells = [_figure(values[key], _form(key, values[key])) if key in values else "-" for key, _ in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _form(key: str, figure: dict[str, float]) -> str:
    value = figure["median"]
    if key == "packets_per_s" or key.endswith("_ns"):
        return ",.0f"
    return ".2f" if value >= 0.1 else ".4f" if value >= 0.0001 else ".1g"
