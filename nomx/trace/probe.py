"""Ad-hoc probes: a C file or a one-line expression, compiled by bcc at run time, filtered to targets, its tables read.

The filter is compiled in front of the user's code: a probe on a tracepoint runs its body only for
threads of the targets, as crossings.bpf.c would count them.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from nomx.errors import InvalidRequest, NotSupported
from nomx.linux.btf import tracepoint_arguments
from nomx.trace import bcc, gaps
from nomx.trace.expression import Source, Table, compile_expression
from nomx.trace.target import Target

_TRACEFS = (Path("/sys/kernel/tracing/events"), Path("/sys/kernel/debug/tracing/events"))

_FILTER = """\
BPF_HASH(nomx_cgroups, u64, u8, 64);
BPF_HASH(nomx_pids, u32, u8, 16384);
static __always_inline int nomx_mine(void)
{
    u64 cgroup = bpf_get_current_cgroup_id();
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    return nomx_pids.lookup(&pid) || nomx_cgroups.lookup(&cgroup);
}
int nomx_follow(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *parent = (struct task_struct *)ctx->args[0], *child = (struct task_struct *)ctx->args[1];
    u32 from = parent->tgid, to = child->tgid;
    u8 yes = 1;
    if (nomx_pids.lookup(&from))
        nomx_pids.update(&to, &yes);
    return 0;
}
"""

_OPENINGS = re.compile(
    r"(?:RAW_)?TRACEPOINT_PROBE\s*\([^)]*\)\s*\{"
    r"|\bint\s+(?:kprobe|kretprobe|tracepoint|raw_tracepoint|syscall)__\w+\s*\([^)]*\)\s*\{"
)
"""Where the body of a probe begins that bcc attaches by its name."""


def filtered(source: str) -> str:
    """Return *source* with a look at whose thread it is at the beginning of each probe; lines stay where they are."""
    return _OPENINGS.sub(lambda match: f"{match[0]} if (!nomx_mine()) return 0;", source)


class ProbeTable(Struct, frozen=True):
    """What a table held at the end."""

    heading: str
    histogram: bool
    rows: tuple[tuple[str, int], ...]
    """(key, count), the greatest count first; of a histogram (bucket, count) by bucket: from 2**(bucket - 1) on."""


class Probe:
    """A compiled and attached probe. A context manager: nothing is left of it afterwards."""

    def __init__(self, program: Any, tables: Sequence[Table]) -> None:
        self._program = program
        self._tables = tables

    @classmethod
    def open(cls, what: str, targets: Sequence[Target], everywhere: bool = False) -> Probe:
        """Compile *what*, a path ending in .c or an expression, for *targets*; everybody's events when *everywhere*.

        Raises:
            InvalidRequest: no such file, not the form, or C that does not compile.
            NotSupported: bcc, BTF or tracefs is missing.
            NotPermitted: a capability is missing.
            MechanismError: the kernel does not take it.
        """
        gaps.check_permitted()
        bcc.load()
        if what.endswith(".c"):
            name, compiled = what, Source(_read(what), ())
        else:
            name, compiled = "expression", compile_expression(what, tracepoint_arguments)
        body = compiled.text if everywhere else filtered(compiled.text)
        program = bcc.compile_program(f'{_FILTER}#line 1 "{name}"\n{body}', name, compiled.text.splitlines())
        probe = cls(program, compiled.tables)
        probe._filter(targets)
        return probe

    def _filter(self, targets: Sequence[Target]) -> None:
        """Let the targets through; the program has been attached, and let nobody through until now."""
        cgroups, pids = self._program[b"nomx_cgroups"], self._program[b"nomx_pids"]
        if any(target.group is None for target in targets):
            self._program.attach_raw_tracepoint(tp=b"sched_process_fork", fn_name=b"nomx_follow")
        for target in targets:
            if target.group is not None:
                cgroups[cgroups.Key(target.subject)] = cgroups.Leaf(1)
                continue
            known: set[int] = set()
            while new := set(target.processes()) - known:
                for pid in new:
                    pids[pids.Key(pid)] = pids.Leaf(1)
                known |= new

    def wait(self, seconds: float | None, should_stop: Callable[[], bool]) -> None:
        """Let it count for *seconds* (None: for ever), or until *should_stop*."""
        deadline = time.monotonic() + seconds if seconds is not None else float("inf")
        while time.monotonic() < deadline and not should_stop():
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))

    def tables(self) -> tuple[ProbeTable, ...]:
        """Read the tables."""
        return tuple(self._table(table) for table in self._tables or self._users())

    def _users(self) -> list[Table]:
        """Return the tables of a user's file: one whose name has `hist` or `dist` in it is a histogram."""
        own = [name for name in _table_names(self._program) if not name.startswith("nomx_")]
        return [Table(name, name, histogram="hist" in name or "dist" in name) for name in own]

    def _table(self, table: Table) -> ProbeTable:
        rows = [(_text(key), _value(leaf)) for key, leaf in self._program[table.name.encode()].items()]
        if table.histogram:
            rows = sorted((row for row in rows if row[1]), key=lambda row: int(row[0]))
        else:
            rows = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
        return ProbeTable(table.heading, table.histogram, tuple(rows))

    def close(self) -> None:
        """Detach it and free its maps."""
        self._program.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(path: str) -> str:
    try:
        source = Path(path).read_text()
    except OSError as error:
        raise InvalidRequest(
            field="probe", value=path, expected=f"a file that can be read ({error.strerror})"
        ) from error
    if "TRACEPOINT_PROBE(" in source.replace("RAW_TRACEPOINT_PROBE(", "") and not any(
        each.is_dir() for each in _TRACEFS
    ):
        remedy = "mount it: mount -t tracefs none /sys/kernel/tracing; or use RAW_TRACEPOINT_PROBE, which needs it not"
        raise NotSupported(feature="TRACEPOINT_PROBE", missing="tracefs is not mounted", remedy=remedy)
    return source


def _table_names(program: Any) -> list[str]:
    library = bcc.load().lib
    name_of = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)(("bpf_table_name", library))
    return [name_of(program.module, number).decode() for number in range(library.bpf_num_tables(program.module))]


def _text(key: Any) -> str:
    """Write a key: a number, a name, or the fields of a struct."""
    if hasattr(key, "value"):
        return _decoded(key.value)
    return ", ".join(_decoded(getattr(key, name)) for name, *_ in key._fields_)


def _decoded(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _value(leaf: Any) -> int:
    """Return a count; of a per-CPU table the sum."""
    return sum(each.value for each in leaf) if hasattr(leaf, "__len__") else int(leaf.value)
