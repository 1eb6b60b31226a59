"""Calls into the application's compiled code that may raise, without losing what the loop has in hand.

An exception in compiled code leaves every function up to Python, and with them the ring positions
that live in registers. So the handler is called through `guarded`, which only says that it raised;
the loop puts its frames in order and then lets the exception go on with `raise_pending`, with its
class, its message and the line it came from.

How: a function of Numba's returns a status, and for an exception the address of its description,
which its caller hands on as it returns with the same status. `guarded` gives that address as a
number, and `raise_pending` returns with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC
from numba.core.errors import TypingError

from nomx.compiled import intrinsic_for

NOTHING_PENDING = 0

_twin_raised = threading.local()


def _guarded_twin(function: Callable[..., int], *arguments: Any) -> tuple[int, int]:
    try:
        return NOTHING_PENDING, function(*arguments)
    except Exception as error:
        _twin_raised.error = error
        return id(error), 0


@intrinsic_for(_guarded_twin)
def guarded(context: Any, function: Any, *arguments: Any) -> Any:
    """Call a compiled function that returns an integer: (NOTHING_PENDING, its result), or (what it raised, 0)."""
    flat = arguments[0].types if isinstance(arguments[0], types.BaseTuple) else arguments
    called = function.get_call_type(context, tuple(flat), {})
    if not isinstance(called.return_type, types.Integer):
        raise TypingError(f"a handler returns an integer, and this one {called.return_type}")
    signature = types.UniTuple(types.int64, 2)(function, types.StarArgTuple(flat))

    def emit(target: Any, builder: Any, _signature: Any, values: Any) -> Any:
        compiled = function.dispatcher.overloads[tuple(called.args)]
        target.add_linking_libs((compiled.library,))
        unpacked = cgutils.unpack_tuple(builder, values[1])
        status, result = target.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, unpacked)
        number = target.cast(builder, result, compiled.signature.return_type, types.int64)
        none = cgutils.intp_t(NOTHING_PENDING)
        pending = builder.select(status.is_user_exc, builder.ptrtoint(status.excinfoptr, none.type), none)
        return target.make_tuple(builder, signature.return_type, (pending, number))

    return signature, emit


def _raise_pending_twin(pending: int) -> None:
    if pending != NOTHING_PENDING:
        raise _twin_raised.error


@intrinsic_for(_raise_pending_twin)
def raise_pending(_context: Any, _pending: Any) -> Any:
    """Raise what a guarded call kept back, if anything."""

    def emit(target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        with cgutils.if_unlikely(builder, cgutils.is_true(builder, arguments[0])):
            slot = target.call_conv._get_excinfo_argument(builder.function)
            builder.store(builder.inttoptr(arguments[0], slot.type.pointee), slot)
            target.call_conv._return_errcode_raw(builder, RETCODE_USEREXC)
        return target.get_dummy_value()

    return types.void(types.int64), emit
