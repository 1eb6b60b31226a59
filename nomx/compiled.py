"""The compiler of the data path, below all of its rooms: how functions that run a frame at a time become machine code.

Numba compiles them, LLVM inlines them into the serve loop. With `NUMBA_DISABLE_JIT=1` the same
functions run as plain Python, for the debugger and for coverage.

Rules of compiled code: integers are int64 and nothing else (Numba turns uint64 with int64 into a
float); nothing that counts references is made per frame; each function is small, for all of them
end up in one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.extending import intrinsic as _intrinsic

_log = logging.getLogger("nomx.compiled")

P = ParamSpec("P")
R = TypeVar("R")

PLAIN_PYTHON: bool = bool(numba.config.DISABLE_JIT)
"""Whether "compiled" functions are plain Python in this process."""


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a building block of the loop; it is always inlined by LLVM."""
    return cast(Callable[P, R], numba.njit(forceinline=True, nogil=True)(function))


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that Python calls: it runs without the interpreter lock, and its code is cached.

    Where this user may write neither beside the source nor at home, it is compiled anew in each process.
    """
    try:
        return cast(Callable[P, R], numba.njit(nogil=True, cache=True)(function))
    except RuntimeError as error:  # Numba's word for: no directory to cache in
        _log.warning("compiled code is not kept (set NUMBA_CACHE_DIR to a directory of yours): %s", error)
        return cast(Callable[P, R], numba.njit(nogil=True)(function))


def intrinsic_for(twin: Callable[P, R]) -> Callable[[Callable[..., Any]], Callable[P, R]]:
    """Make a typing function an LLVM intrinsic, for which *twin* stands in when code runs as plain Python."""

    def decorate(typing: Callable[..., Any]) -> Callable[P, R]:
        return twin if PLAIN_PYTHON else cast(Callable[P, R], _intrinsic(typing))

    return decorate
