"""The words both flows use: small values that are right by construction, each parsed once, at the edge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NewType

from nomx.errors import InvalidRequest

LeaseId = NewType("LeaseId", str)
"""A lease's name, unique for the life of a journal: `L1`, `L2`, ..."""

QueueId = NewType("QueueId", int)
"""A receive/transmit queue pair of one device, from 0."""

_CPU_RANGE = r"(\d+)(?:-(\d+))?"
_SIZE = r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?"
_RATE = r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:bit(?:/s)?|bps)?"
_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class CpuSet(frozenset[int]):
    """A set of logical CPUs, written as the kernel writes it: `0-3,8`."""

    @classmethod
    def parse(cls, text: str) -> CpuSet:
        """Read the kernel's list format; an empty text is the empty set.

        Raises: InvalidRequest: *text* is not such a list.
        Source: Documentation/admin-guide/cgroup-v2.rst, "cpuset.cpus".
        """
        return cls(_cpus_of(text))

    def __str__(self) -> str:
        return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in _runs(sorted(self)))

    def __repr__(self) -> str:
        return f"CpuSet({str(self)!r})"


def _cpus_of(text: str) -> Iterator[int]:
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(_CPU_RANGE, part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise InvalidRequest(field="cpus", value=repr(text), expected="a CPU list such as 0-3,8")
        yield from range(int(match[1]), int(match[2] or match[1]) + 1)


def _runs(cpus: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each run of consecutive CPUs in a sorted sequence."""
    low = high = None
    for cpu in cpus:
        if high is not None and cpu == high + 1:
            high = cpu
            continue
        if low is not None and high is not None:
            yield low, high
        low = high = cpu
    if low is not None and high is not None:
        yield low, high


def parse_size_bytes(text: str, field: str = "size") -> int:
    """Read a memory size such as `512M` or `1.5GiB` (binary units) as bytes, at least 1.

    Raises: InvalidRequest: not a size, or not positive.
    """
    return _scaled(_SIZE, _BINARY, text, field, "a size such as 256M or 2G")


def parse_rate_bps(text: str, field: str = "bandwidth") -> int:
    """Read a rate such as `500M` or `10Gbit` (decimal units) as bits per second, at least 1.

    Raises: InvalidRequest: not a rate, or not positive.
    """
    return _scaled(_RATE, _DECIMAL, text, field, "a rate such as 100M or 10Gbit, in bits per second")


def _scaled(form: str, scale: dict[str, int], text: str, field: str, expected: str) -> int:
    match = re.fullmatch(form, text.strip(), re.IGNORECASE)
    value = int(float(match[1]) * scale[match[2].upper()]) if match else 0
    if value <= 0:
        raise InvalidRequest(field=field, value=repr(text), expected=expected)
    return value


@dataclass(frozen=True)
class Finding:
    """What a probe found of one *feature* of this machine: whether it is there, the reason, how to mend it."""

    feature: str
    available: bool
    reason: str
    remedy: str = ""
