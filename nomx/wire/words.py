"""Numbers in a frame, most significant byte first: what every accessor is made of.

Each is one load or store of the processor, at any alignment. Written byte by byte they would not
be: an index of a NumPy array may be negative, and code for that keeps LLVM from joining the bytes.
So offsets here are never negative, and nothing checks that they are inside the frame: the caller has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from nomx.compiled import inlined, intrinsic_for

Frame: TypeAlias = NDArray[np.uint8]
"""A frame's bytes, from the first of the destination address on; often longer than the packet in it."""


def _load_in_python(length: int, order: Literal["big", "little"] = "big") -> Callable[[Frame, int], int]:
    signed = length == 8  # an int64 has no room for more
    return lambda frame, at: int.from_bytes(frame[at : at + length].tobytes(), order, signed=signed)


def _store_in_python(length: int) -> Callable[[Frame, int, int], None]:
    def store(frame: Frame, at: int, value: int) -> None:
        cut = int(value) & (1 << 8 * length) - 1
        frame[at : at + length] = np.frombuffer(cut.to_bytes(length, "big"), np.uint8)

    return store


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any, word: Any) -> Any:
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), word.as_pointer())


def _emit_load(bits: int, *, swapped: bool) -> Callable[..., Any]:
    word = ir.IntType(bits)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], arguments[0], arguments[1], word), align=1)
        return builder.zext(builder.bswap(value) if swapped else value, ir.IntType(64))

    return emit


def _emit_store(bits: int, *, swapped: bool) -> Callable[..., Any]:
    word = ir.IntType(bits)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, value = arguments
        value = builder.trunc(value, word)
        pointer = _pointer(context, builder, signature.args[0], array, at, word)
        builder.store(builder.bswap(value) if swapped else value, pointer, align=1)
        return context.get_dummy_value()

    return emit


@intrinsic_for(_load_in_python(1))
def load8(_context: Any, frame: Any, _at: Any) -> Any:
    """Read one byte."""
    return types.int64(frame, types.int64), _emit_load(8, swapped=False)


@intrinsic_for(_load_in_python(2))
def load16(_context: Any, frame: Any, _at: Any) -> Any:
    """Read two bytes."""
    return types.int64(frame, types.int64), _emit_load(16, swapped=True)


@intrinsic_for(_load_in_python(4))
def load32(_context: Any, frame: Any, _at: Any) -> Any:
    """Read four bytes."""
    return types.int64(frame, types.int64), _emit_load(32, swapped=True)


@intrinsic_for(_load_in_python(8))
def load64(_context: Any, frame: Any, _at: Any) -> Any:
    """Read eight bytes; negative if the first bit is set."""
    return types.int64(frame, types.int64), _emit_load(64, swapped=True)


@intrinsic_for(_store_in_python(1))
def store8(_context: Any, frame: Any, _at: Any, _value: Any) -> Any:
    """Write one byte, the lowest of *value*."""
    return types.void(frame, types.int64, types.int64), _emit_store(8, swapped=False)


@intrinsic_for(_store_in_python(2))
def store16(_context: Any, frame: Any, _at: Any, _value: Any) -> Any:
    """Write two bytes, the lowest of *value*."""
    return types.void(frame, types.int64, types.int64), _emit_store(16, swapped=True)


@intrinsic_for(_store_in_python(4))
def store32(_context: Any, frame: Any, _at: Any, _value: Any) -> Any:
    """Write four bytes, the lowest of *value*."""
    return types.void(frame, types.int64, types.int64), _emit_store(32, swapped=True)


@intrinsic_for(_store_in_python(8))
def store64(_context: Any, frame: Any, _at: Any, _value: Any) -> Any:
    """Write eight bytes."""
    return types.void(frame, types.int64, types.int64), _emit_store(64, swapped=True)


@intrinsic_for(_load_in_python(2, "little"))
def native16(_context: Any, frame: Any, _at: Any) -> Any:
    """Read two bytes in the machine's order, which is the other one."""
    return types.int64(frame, types.int64), _emit_load(16, swapped=False)


@intrinsic_for(_load_in_python(4, "little"))
def native32(_context: Any, frame: Any, _at: Any) -> Any:
    """Read four bytes in the machine's order, which is the other one."""
    return types.int64(frame, types.int64), _emit_load(32, swapped=False)


@inlined
def load48(frame: Frame, at: int) -> int:
    """Read six bytes: a MAC address."""
    return load32(frame, at) << 16 | load16(frame, at + 4)


@inlined
def store48(frame: Frame, at: int, value: int) -> None:
    """Write six bytes, the lowest of *value*: a MAC address."""
    store32(frame, at, value >> 16)
    store16(frame, at + 4, value)


@inlined
def cut_out(frame: Frame, at: int, gap: int, end: int) -> None:
    """Take *gap* bytes out of a frame at *at*: what follows them, up to *end*, moves forward."""
    for byte in range(at, end - gap):
        store8(frame, byte, load8(frame, byte + gap))
