"""The system calls of compiled code, by the C library's functions: no interpreter lock, no Python object, cacheable.

LLVM resolves the names in the running process, so this holds on every architecture that Numba
knows. Each call returns its result or -errno; none raises. The twins in plain Python call the same
functions through ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from nomx.compiled import inlined, intrinsic_for
from nomx.ring.atomics import load_i64, store_i64

MSG_DONTWAIT = 0x40
POLLIN = 1
POLLERR = 8

_CLOCK_MONOTONIC = 1
_NS_PER_S = 1_000_000_000
_INT = 32
_LONG = 64

_libc = ctypes.CDLL(None, use_errno=True)


def _in_libc(name: str, result_bits: int, argument_bits: tuple[int, ...]) -> Callable[..., Any]:
    """Declare a C function of ints and longs (pointers are longs), and call it; the result as int64."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kinds = [ir.IntType(bits) for bits in argument_bits]
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(result_bits), kinds), name)
        narrowed = [
            value if kind.width == _LONG else builder.trunc(value, kind)
            for value, kind in zip(arguments, kinds, strict=True)
        ]
        result = builder.call(function, narrowed)
        return result if result_bits == _LONG else builder.sext(result, ir.IntType(_LONG))

    return emit


def _through_ctypes(name: str, result: type[Any]) -> Callable[..., int]:
    function = _libc[name]
    function.restype = result

    def call(*arguments: int) -> int:
        return int(function(*(ctypes.c_long(argument) for argument in arguments)))

    return call


@intrinsic_for(ctypes.get_errno)
def _last_errno(_context: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(_INT).as_pointer(), [])
        location = cgutils.get_or_insert_function(builder.module, kind, "__errno_location")
        return builder.sext(builder.load(builder.call(location, [])), ir.IntType(_LONG))

    return types.int64(), emit


@intrinsic_for(_through_ctypes("poll", ctypes.c_int))
def _poll(_context: Any, _fds: Any, _count: Any, _timeout_ms: Any) -> Any:
    signature = types.int64(types.int64, types.int64, types.int64)
    return signature, _in_libc("poll", _INT, (_LONG, _LONG, _INT))


@intrinsic_for(_through_ctypes("sendto", ctypes.c_long))
def _sendto(_context: Any, _fd: Any, _data: Any, _length: Any, _flags: Any, _to: Any, _to_length: Any) -> Any:
    return types.int64(*[types.int64] * 6), _in_libc("sendto", _LONG, (_INT, _LONG, _LONG, _INT, _LONG, _INT))


@intrinsic_for(_through_ctypes("recvfrom", ctypes.c_long))
def _recvfrom(_context: Any, _fd: Any, _data: Any, _length: Any, _flags: Any, _from: Any, _from_length: Any) -> Any:
    return types.int64(*[types.int64] * 6), _in_libc("recvfrom", _LONG, (_INT, _LONG, _LONG, _INT, _LONG, _LONG))


@intrinsic_for(_through_ctypes("recvmmsg", ctypes.c_int))
def _recvmmsg(_context: Any, _fd: Any, _messages: Any, _count: Any, _flags: Any, _timeout: Any) -> Any:
    return types.int64(*[types.int64] * 5), _in_libc("recvmmsg", _INT, (_INT, _LONG, _INT, _INT, _LONG))


@intrinsic_for(_through_ctypes("sendmmsg", ctypes.c_int))
def _sendmmsg(_context: Any, _fd: Any, _messages: Any, _count: Any, _flags: Any) -> Any:
    return types.int64(*[types.int64] * 4), _in_libc("sendmmsg", _INT, (_INT, _LONG, _INT, _INT))


@intrinsic_for(_through_ctypes("clock_gettime", ctypes.c_int))
def _clock_gettime(_context: Any, _clock: Any, _timespec: Any) -> Any:
    return types.int64(types.int64, types.int64), _in_libc("clock_gettime", _INT, (_INT, _LONG))


@intrinsic_for(_through_ctypes("nanosleep", ctypes.c_int))
def _nanosleep(_context: Any, _wanted: Any, _left: Any) -> Any:
    return types.int64(types.int64, types.int64), _in_libc("nanosleep", _INT, (_LONG, _LONG))


@inlined
def poll(fds: int, count: int, timeout_ms: int) -> int:
    """Wait on *count* struct pollfd at *fds* for at most *timeout_ms* (-1: for ever); how many are ready. poll(2)."""
    ready = _poll(fds, count, timeout_ms)
    return ready if ready >= 0 else -_last_errno()


@inlined
def wake_tx(fd: int) -> int:
    """Have the kernel send what is in an XSK's tx ring, without waiting. sendto(2), as af_xdp.rst has it."""
    result = _sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0)
    return result if result >= 0 else -_last_errno()


@inlined
def wake_rx(fd: int) -> int:
    """Have the kernel look at an XSK's fill ring, without waiting. recvfrom(2), as af_xdp.rst has it."""
    result = _recvfrom(fd, 0, 0, MSG_DONTWAIT, 0, 0)
    return result if result >= 0 else -_last_errno()


@inlined
def receive_messages(fd: int, messages: int, count: int) -> int:
    """Receive up to *count* datagrams into struct mmsghdr at *messages*, without waiting; how many. recvmmsg(2)."""
    received = _recvmmsg(fd, messages, count, MSG_DONTWAIT, 0)
    return received if received >= 0 else -_last_errno()


@inlined
def send_messages(fd: int, messages: int, count: int) -> int:
    """Send up to *count* datagrams of struct mmsghdr at *messages*, waiting for room; how many. sendmmsg(2)."""
    sent = _sendmmsg(fd, messages, count, 0)
    return sent if sent >= 0 else -_last_errno()


@inlined
def monotonic_ns(timespec: int) -> int:
    """Read CLOCK_MONOTONIC in ns, through 16 bytes of the caller's at *timespec*; by the vDSO where it can."""
    _clock_gettime(_CLOCK_MONOTONIC, timespec)
    return load_i64(timespec) * _NS_PER_S + load_i64(timespec + 8)


@inlined
def sleep_ns(timespec: int, duration_ns: int) -> None:
    """Sleep for *duration_ns*, and the thread's timer slack; 16 bytes of the caller's at *timespec*. nanosleep(2)."""
    store_i64(timespec, duration_ns // _NS_PER_S)
    store_i64(timespec + 8, duration_ns % _NS_PER_S)
    _nanosleep(timespec, 0)
