"""Is a request well formed? Said before anybody asks whether there is enough for it. Pure."""

from __future__ import annotations

from nomx.alloc.inventory import LADDER
from nomx.api.lease import MAX_QUEUES, REQUIREMENTS, LeaseSpec
from nomx.errors import InvalidRequest

MIN_MEMORY_BYTES = 16 << 20
"""The least memory limit: below it not even an interpreter starts."""

MAX_NAME = 64


def check_spec(spec: LeaseSpec) -> None:
    """Raise InvalidRequest unless each field of *spec* is acceptable by itself."""
    _check("name", spec.name, len(spec.name) <= MAX_NAME and spec.name.isprintable(), "up to 64 printable characters")
    _check("path", spec.path, spec.path in (None, *LADDER), f"one of {', '.join(LADDER)}, or none")
    for word in spec.require:
        _check("require", word, word in REQUIREMENTS, f"of {', '.join(REQUIREMENTS)}")
    _check("cores", spec.cores, spec.cores >= 0, "a number of CPUs, 0 for the shared pool")
    _check("queues", spec.queues, 1 <= spec.queues <= MAX_QUEUES, f"1 to {MAX_QUEUES}")
    enough = spec.memory_bytes is None or spec.memory_bytes >= MIN_MEMORY_BYTES
    _check("memory", spec.memory_bytes, enough, f"at least {MIN_MEMORY_BYTES >> 20}M, or no limit")
    positive = spec.bandwidth_bps is None or spec.bandwidth_bps > 0
    _check("bandwidth", spec.bandwidth_bps, positive, "more than 0 bit/s, or no limit")


def _check(field: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise InvalidRequest(field=field, value=repr(value), expected=expected)
