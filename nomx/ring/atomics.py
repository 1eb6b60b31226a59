"""Memory by address, for compiled code: ring indices with acquire and release order, ring entries, and views on frames.

The kernel or another process writes on the other side of these addresses, so an index is never an
ordinary load: what a producer wrote before its release is seen after our acquire, and not before.
Each intrinsic has a twin in plain Python; there the order is the processor's (CPython's own
machinery between two steps makes no reordering visible on x86; on weaker machines the twins are
for single-threaded tests only).

Addresses, and all values, are int64.
Source: Documentation/networking/af_xdp.rst, "Rings"; LLVM Language Reference, "Atomic Memory Ordering Constraints".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

from nomx.compiled import intrinsic_for

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


def _load_u32(address: int) -> int:
    return ctypes.c_uint32.from_address(int(address)).value


def _store_u32(address: int, value: int) -> None:
    ctypes.c_uint32.from_address(int(address)).value = int(value) & 0xFFFF_FFFF


def _load_i64(address: int) -> int:
    return ctypes.c_int64.from_address(int(address)).value


def _store_i64(address: int, value: int) -> None:
    ctypes.c_int64.from_address(int(address)).value = int(value)


def _view(address: int, length: int) -> NDArray[np.uint8]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * int(length)).from_address(int(address)))


@intrinsic_for(_load_u32)
def load_acquire(_context: Any, _address: Any) -> Any:
    """Load a ring index that the other side stores with release order."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I32.as_pointer())
        return builder.zext(builder.load_atomic(pointer, "acquire", 4), _I64)

    return types.int64(types.int64), emit


@intrinsic_for(_load_u32)
def load_relaxed(_context: Any, _address: Any) -> Any:
    """Load a 32-bit word that others write, where nothing hangs on its order (flags, our own index)."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I32.as_pointer())
        return builder.zext(builder.load_atomic(pointer, "monotonic", 4), _I64)

    return types.int64(types.int64), emit


@intrinsic_for(_store_u32)
def store_release(_context: Any, _address: Any, _value: Any) -> Any:
    """Store a ring index, modulo 2**32: all that was written before it is seen by who acquires it."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I32.as_pointer())
        builder.store_atomic(builder.trunc(arguments[1], _I32), pointer, "release", 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic_for(_load_u32)
def load_u32(_context: Any, _address: Any) -> Any:
    """Load a 32-bit word of a ring entry that is ours to read."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I32.as_pointer())
        return builder.zext(builder.load(pointer, align=4), _I64)

    return types.int64(types.int64), emit


@intrinsic_for(_load_i64)
def load_i64(_context: Any, _address: Any) -> Any:
    """Load a 64-bit word that is ours to read."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _I64.as_pointer()), align=8)

    return types.int64(types.int64), emit


@intrinsic_for(_store_i64)
def store_i64(_context: Any, _address: Any, _value: Any) -> Any:
    """Store a 64-bit word that is ours to write."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], _I64.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic_for(_load_i64)
def load_relaxed_i64(_context: Any, _address: Any) -> Any:
    """Load a 64-bit word that another thread stores: each time it is asked for, and whole."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(pointer, "monotonic", 8)

    return types.int64(types.int64), emit


_BYTES = types.Array(types.uint8, 1, "C")


def _borrowed(kind: Any, context: Any, builder: Any, address: Any, shape: list[Any]) -> Any:
    """Make a C-contiguous array of a Numba array type over memory that it does not own."""
    array = make_array(kind)(context, builder)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    data = builder.inttoptr(address, array.data.type)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


@intrinsic_for(_view)
def bytes_at(_context: Any, _address: Any, _length: Any) -> Any:
    """View *length* bytes at *address* as an array, which owns nothing: no reference is counted for it."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address, length = arguments
        return _borrowed(_BYTES, context, builder, address, [length])

    return _BYTES(types.int64, types.int64), emit


def view_like(array: NDArray[Any]) -> Callable[[int], NDArray[Any]]:
    """Make the intrinsic that views an address as a C-contiguous array of *array*'s type and shape.

    In plain Python it gives *array* itself, wherever the address is.
    """
    kind = typeof(array)

    @intrinsic_for(lambda _address: array)
    def view(_context: Any, _address: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            shape = [context.get_constant(types.intp, extent) for extent in array.shape]
            return _borrowed(kind, context, builder, arguments[0], shape)

        return kind(types.int64), emit

    return view
