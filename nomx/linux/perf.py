"""perf events by perf_event_open(2): the CPU clock that the tracer's samples tick with.

Used by `nomx.trace`. Functions raise OSError with the call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_NUMBERS = {"x86_64": 298, "aarch64": 241}
_TYPE_SOFTWARE = 1
_COUNT_SW_CPU_CLOCK = 0
_FLAG_FD_CLOEXEC = 8
_FREQ = 1 << 10
_ATTRIBUTE_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def open_cpu_clock(cpu: int, frequency_hz: int) -> int:
    """Open an event that overflows *frequency_hz* times a second on *cpu* while that is not idle; its descriptor.

    The CPU clock is a timer of the kernel's, there on every machine. It does not tick while
    interrupts are off: such time is seen where they come on again.

    Raises: PermissionError: CAP_PERFMON is missing.
    """
    attributes = struct.pack(
        "=IIQQQQQ", _TYPE_SOFTWARE, _ATTRIBUTE_BYTES, _COUNT_SW_CPU_CLOCK, frequency_hz, 0, 0, _FREQ
    ).ljust(_ATTRIBUTE_BYTES, b"\0")
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"perf_event_open: its number on {platform.machine()} is not known")
    fd: int = _libc.syscall(number, attributes, -1, cpu, -1, _FLAG_FD_CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"perf_event_open(cpu {cpu}): {os.strerror(code)}")
    return fd
