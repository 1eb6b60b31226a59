"""A probe in one line to a C program for bcc: `TRACEPOINT [/CONDITION/] [{ ACTION; ... }]`. No system call.

    napi_poll { hist(work) }                        a histogram of frames a poll
    sys_enter /id == 44/ { count(comm) }            sendto by the thread's name
    sched_switch { count(prev_state), hist(cpu) }

TRACEPOINT is a raw tracepoint; its arguments have the names that the kernel gives them, and so have
their fields. CONDITION and the arguments of actions are expressions in C over these, and over pid,
tid, cpu, ns and, as a key, comm. Without an action, `count()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nomx.errors import InvalidRequest
from nomx.linux.btf import Argument

_PROBE = re.compile(r"\s*(?P<tracepoint>\w+)\s*(?:/(?P<condition>.+)/)?\s*(?:\{(?P<actions>.*)\})?\s*", re.DOTALL)
_ACTION = re.compile(r"(?P<verb>count|hist|sum)\s*\((?P<argument>.*)\)", re.DOTALL)

_BUILTINS = """\
    u32 pid = bpf_get_current_pid_tgid() >> 32, tid = bpf_get_current_pid_tgid(), cpu = bpf_get_smp_processor_id();
    u64 ns = bpf_ktime_get_ns();
"""

FORM = "TRACEPOINT [/CONDITION/] [{ count(KEY) | sum(VALUE, KEY) | hist(VALUE); ... }]"


@dataclass(frozen=True)
class Table:
    """A table of a compiled probe: its name in C, how it is headed, and whether it is a histogram."""

    name: str
    heading: str
    histogram: bool
    by_comm: bool = False


@dataclass(frozen=True)
class Source:
    """A program for bcc, and the tables that it fills."""

    text: str
    tables: tuple[Table, ...]


def compile_expression(expression: str, arguments_of: Callable[[str], tuple[Argument, ...] | None]) -> Source:
    """Translate *expression*; *arguments_of* tells a tracepoint's arguments, None where there is no such tracepoint.

    Raises: InvalidRequest: it has not the form, or there is no such tracepoint.
    """
    match = _PROBE.fullmatch(expression)
    if match is None:
        raise InvalidRequest(field="probe", value=repr(expression), expected=f"a file ending in .c, or {FORM}")
    tracepoint = match["tracepoint"]
    arguments = arguments_of(tracepoint)
    if arguments is None:
        expected = f"a tracepoint of this kernel (its BTF has them as btf_trace_NAME), in {FORM}"
        raise InvalidRequest(field="tracepoint", value=tracepoint, expected=expected)
    actions = _actions(match["actions"] or "count()", expression)
    lines = [_statement(number, *action) for number, action in enumerate(actions)]
    tables = tuple(table for table, _, _ in lines)
    body = "".join(
        f"    {argument.declaration} = ({_type(argument)})ctx->args[{place}];\n"
        for place, argument in enumerate(arguments)
    )
    condition = f"    if (!({match['condition']}))\n        return 0;\n" if match["condition"] else ""
    text = (
        "".join(declaration for _, declaration, _ in lines)
        + f"RAW_TRACEPOINT_PROBE({tracepoint})\n{{\n{_BUILTINS}{body}{condition}"
        + "".join(statement for _, _, statement in lines)
        + "    return 0;\n}\n"
    )
    return Source(text, tables)


def _type(argument: Argument) -> str:
    """Return the type of an argument: its declaration without its name (arguments are no arrays, no functions)."""
    return argument.declaration.removesuffix(argument.name).strip()


def _actions(text: str, expression: str) -> Sequence[tuple[str, list[str]]]:
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        match = _ACTION.fullmatch(part)
        if match is None:
            raise InvalidRequest(field="probe", value=repr(part), expected=f"an action, in {FORM}")
        found.append((match["verb"], _split(match["argument"])))
    if not found:
        raise InvalidRequest(field="probe", value=repr(expression), expected=f"at least one action, in {FORM}")
    return found


def _split(text: str) -> list[str]:
    """Split at commas that are in no parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _statement(number: int, verb: str, arguments: list[str]) -> tuple[Table, str, str]:
    """Return the table of one action, its declaration, and the statements that fill it."""
    heading = f"{verb}({', '.join(arguments)})"
    if verb == "hist":
        _check_count(heading, arguments, least=1, most=1)
        name = f"nomx_hist_{number}"
        statement = f"    {name}.increment(bpf_log2l((u64)({arguments[0]})));\n"
        return Table(name, heading, histogram=True), f"BPF_HISTOGRAM({name});\n", statement
    name = f"nomx_count_{number}"
    _check_count(heading, arguments, least=verb == "sum", most=1 + (verb == "sum"))
    amount = f"(u64)({arguments.pop(0)})" if verb == "sum" else "1"
    if arguments and arguments[0] == "comm":
        kind = f"struct nomx_comm_{number}"
        declaration = f"{kind} {{ char name[16]; }};\nBPF_HASH({name}, {kind}, u64);\n"
        key = f"{kind} key = {{}};\n        bpf_get_current_comm(&key.name, sizeof(key.name));"
        by_comm = True
    else:
        declaration = f"BPF_HASH({name}, u64, u64);\n"
        key, by_comm = f"u64 key = (u64)({arguments[0] if arguments else '0'});", False
    statement = f"    {{\n        {key}\n        {name}.increment(key, {amount});\n    }}\n"
    return Table(name, heading, histogram=False, by_comm=by_comm), declaration, statement


def _check_count(heading: str, arguments: list[str], least: int, most: int) -> None:
    if not least <= len(arguments) <= most:
        expected = "count(), count(KEY), sum(VALUE), sum(VALUE, KEY) or hist(VALUE)"
        raise InvalidRequest(field="probe", value=heading, expected=expected)
