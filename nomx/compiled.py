"""The compiler of the data path, below all of its rooms: how functions that run a frame at a time become machine code.

Numba compiles them, LLVM inlines them into the serve loop. With `NUMBA_DISABLE_JIT=1` the same
functions run as plain Python, for the debugger and for coverage.

Rules of compiled code: integers are int64 and nothing else (Numba turns uint64 with int64 into a
float); nothing that counts references is made per frame; each function is small, for all of them
end up in one.

Code is cached per user, in a folder whose name is a hash of all that it is made from besides the
function's own file: Numba looks at that file alone, and would take old code of what is inlined.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.extending import intrinsic as _intrinsic

from nomx.errors import NotSupported

P = ParamSpec("P")
R = TypeVar("R")

int64 = cast("type[int]", np.int64)
"""The integer of compiled code: what begins as `int64(0)` never becomes another kind, plain Python included."""

PLAIN_PYTHON: bool = bool(numba.config.DISABLE_JIT)
"""Whether "compiled" functions are plain Python in this process."""

if sys.byteorder != "little":
    raise NotSupported(
        feature="the compiled data path", missing="a little-endian processor", remedy="use x86-64 or AArch64"
    )

_HERE = Path(__file__).parent
ROOMS = ("compiled", "ring", "wire", "device", "stack", "sockets", "app")
"""The modules and packages of nomx that compiled code is made of."""

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "_nrt": False,  # no reference counts: arrays are borrowed, and what would allocate does not compile
    "no_cfunc_wrapper": True,  # nobody calls from C, and making the entry takes time
}

_log = logging.getLogger("nomx.compiled")


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a building block of the loop; it is always inlined by LLVM."""
    return _jit(function, forceinline=True)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that Python calls; it runs without the interpreter lock."""
    return _jit(function)


def inlined_uncached(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a building block whose code is kept only as part of what it is inlined into."""
    return cast(Callable[P, R], numba.njit(**_OPTIONS, forceinline=True)(function))


def compiled_uncached(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that Python calls, anew in each process."""
    return cast(Callable[P, R], numba.njit(**_OPTIONS)(function))


def application(function: Callable[P, R], *, boundscheck: bool) -> Callable[P, R]:
    """Compile a function of the application's, which may allocate, to be inlined into the loop."""
    return cast(Callable[P, R], numba.njit(nogil=True, forceinline=True, boundscheck=boundscheck)(function))


def intrinsic_for(twin: Callable[P, R]) -> Callable[[Callable[..., Any]], Callable[P, R]]:
    """Make a typing function an LLVM intrinsic, for which *twin* stands in when code runs as plain Python."""

    def decorate(typing: Callable[..., Any]) -> Callable[P, R]:
        return twin if PLAIN_PYTHON else cast(Callable[P, R], _intrinsic(typing))

    return decorate


def _jit(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    folder = cache_folder()
    if PLAIN_PYTHON or folder is None:
        return cast(Callable[P, R], numba.njit(**_OPTIONS, **options)(function))
    users_own = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read when the decorator runs, and the user's own functions keep theirs
    try:
        return cast(Callable[P, R], numba.njit(**_OPTIONS, cache=True, **options)(function))
    finally:
        numba.config.CACHE_DIR = users_own


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled code is kept: $NUMBA_CACHE_DIR, or nomx under $XDG_CACHE_HOME or ~/.cache; None: nowhere."""
    base = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "nomx" / f"compiled-{_fingerprint()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        _log.warning("compiled code is not kept, so every start compiles: %s (set NUMBA_CACHE_DIR)", error)
        return None


def _fingerprint() -> str:
    """Hash all of the data path's source, and the versions of what compiles it."""
    digest = hashlib.blake2b(digest_size=10)
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    options = (numba.config.OPT, numba.config.BOUNDSCHECK)
    digest.update(repr((versions, options)).encode())
    for path in sorted(path for room in ROOMS for path in (*_HERE.glob(f"{room}.py"), *(_HERE / room).glob("*.py"))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
