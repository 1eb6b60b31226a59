"""Is a request well formed? Said before anybody asks whether there is enough for it. Pure."""

from __future__ import annotations

from nomx.api.lease import MAX_QUEUES, REQUIREMENTS, LeaseSpec, UmemGeometry
from nomx.errors import InvalidRequest

LADDER_WORDS = ("kernel", "soft", "vf", "memif", "vfio")
"""Every path that nomx has a word for, handed out here or not."""

MIN_MEMORY_BYTES = 16 << 20
"""The least memory limit: below it not even an interpreter starts."""

MAX_NAME = 64
_MAX_RING = 1 << 16
_MAX_FRAMES_PER_QUEUE = 1 << 20
_FRAME_BYTES = (2048, 4096)
"""The chunk sizes of aligned AF_XDP: powers of two from 2048 to the page size."""


def check_spec(spec: LeaseSpec) -> None:
    """Raise InvalidRequest unless each field of *spec* is acceptable by itself."""
    _check("name", spec.name, len(spec.name) <= MAX_NAME and spec.name.isprintable(), "up to 64 printable characters")
    _check("path", spec.path, spec.path in (None, *LADDER_WORDS), f"one of {', '.join(LADDER_WORDS)}, or none")
    for word in spec.require:
        _check("require", word, word in REQUIREMENTS, f"of {', '.join(REQUIREMENTS)}")
    _check("cores", spec.cores, spec.cores >= 0, "a number of CPUs, 0 for the shared pool")
    _check("queues", spec.queues, 1 <= spec.queues <= MAX_QUEUES, f"1 to {MAX_QUEUES}")
    enough = spec.memory_bytes is None or spec.memory_bytes >= MIN_MEMORY_BYTES
    _check("memory", spec.memory_bytes, enough, f"at least {MIN_MEMORY_BYTES >> 20}M, or no limit")
    positive = spec.bandwidth_bps is None or spec.bandwidth_bps > 0
    _check("bandwidth", spec.bandwidth_bps, positive, "more than 0 bit/s, or no limit")


def check_umem(umem: UmemGeometry, queues: int, memfd_bytes: int) -> None:
    """Raise InvalidRequest unless *umem* can be bound to *queues* queues out of a memfd of *memfd_bytes*.

    Source: Documentation/networking/af_xdp.rst, "UMEM"; net/xdp/xdp_umem.c, xdp_umem_reg.
    """
    for name in ("rx", "tx", "fill", "completion"):
        size = getattr(umem.rings, name)
        fits = 1 < size <= _MAX_RING and _is_power_of_two(size)
        _check(f"rings.{name}", size, fits, f"a power of two up to {_MAX_RING}")
    _check("frame_bytes", umem.frame_bytes, umem.frame_bytes in _FRAME_BYTES, "2048 or 4096")
    frames = umem.frames_per_queue
    _check("frames_per_queue", frames, 1 <= frames <= _MAX_FRAMES_PER_QUEUE, f"1 to {_MAX_FRAMES_PER_QUEUE}")
    room = umem.frame_bytes - 256  # what XDP keeps in front of each packet
    _check("headroom_bytes", umem.headroom_bytes, 0 <= umem.headroom_bytes < room, f"less than {room}")
    expected = f"{queues} x {umem.slice_bytes} bytes (queues x frames x frame size)"
    _check("umem size", memfd_bytes, memfd_bytes == queues * umem.slice_bytes, expected)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _check(field: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise InvalidRequest(field=field, value=repr(value), expected=expected)
