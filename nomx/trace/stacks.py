"""Samples of kernel stacks to functions and folded stacks, with names from the kernel's symbol table.

Between the tracer's samples and `nomx.trace.flame`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nomx.linux.abi_trace import SampleWhere
from nomx.linux.symbols import Symbols
from nomx.trace.report import FunctionLine, StackLine

USER = "[user space]"
NET_RX = "[receive softirq, any device]"
KERNEL = "[kernel]"

Samples = Iterable[tuple[int, SampleWhere, tuple[int, ...], int]]
"""(subject or 0, where, addresses from the innermost frame out, how often)."""


def stack_lines(samples: Samples, subject: int, label: str, symbols: Symbols) -> tuple[StackLine, ...]:
    """Name the samples of *subject*, and of receive softirqs in other threads' places; the most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for owner, where, addresses, count in samples:
        if owner not in (subject, 0):
            continue
        functions = tuple(symbols.name(address) for address in reversed(addresses))
        match where:
            case SampleWhere.USER:
                frames: tuple[str, ...] = (label, USER)
            case SampleWhere.KERNEL:
                frames = (label, *(functions or (KERNEL,)))
            case SampleWhere.NET_RX:
                frames = (NET_RX, *functions)
        counts[frames] += count
    return tuple(StackLine(frames, count) for frames, count in counts.most_common())


def together(each: Sequence[Iterable[StackLine]]) -> tuple[StackLine, ...]:
    """Put the stacks of targets that were traced together into one list; receive softirqs, which all have, once."""
    lines = [line for number, stacks in enumerate(each) for line in stacks if not number or line.frames[0] != NET_RX]
    return tuple(sorted(lines, key=lambda line: -line.samples))


def function_lines(stacks: Iterable[StackLine]) -> tuple[FunctionLine, ...]:
    """Add up stacks by function, the most samples in the function itself first; roots are not functions."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack in stacks:
        own[stack.frames[-1]] += stack.samples
        for name in set(stack.frames[1:]):
            total[name] += stack.samples
    return tuple(
        FunctionLine(name, own[name], total[name])
        for name in sorted(total, key=lambda each: (-own[each], -total[each]))
    )
