"""What compiled code of a handler depends on, as a hash: its code, its constants, and all that it reaches by name.

Numba bakes globals into the code, and its own cache looks at the function's file alone. Here a
changed constant in another module gives another hash. What cannot be hashed for certain makes the
handler uncacheable, never stale.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from nomx.compiled import ROOMS

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis))
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Unhashable(Exception):
    """The value named in the message cannot be hashed for certain."""


class Fingerprint:
    """A hash to which functions and values are added."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=12)
        self._seen: set[int] = set()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def add(self, name: str, value: Any) -> None:
        """Add a value and what it reaches. Raises: Unhashable."""
        self._put("name", name)
        if isinstance(value, _PLAIN):
            self._put("plain", f"{type(value).__name__} {value!r}")
        elif isinstance(value, tuple | frozenset):
            parts = sorted(value, key=repr) if isinstance(value, frozenset) else value
            for number, part in enumerate(parts):
                self.add(f"{type(value).__name__}[{number}]", part)
        elif isinstance(value, np.ndarray | np.generic):
            self._add_array(value)
        elif isinstance(value, np.dtype):
            self._put("dtype", repr(value.descr))
        elif isinstance(value, CodeType):
            self._add_code(value)
        else:
            self._add_callable(name, value)

    def _add_callable(self, name: str, value: Any) -> None:
        function = getattr(value, "py_func", value)  # a Numba dispatcher
        if isinstance(function, FunctionType):
            self._put("options", repr(sorted(getattr(value, "targetoptions", {}).items(), key=repr)))
            self._add_function(function)
        elif isinstance(function, ModuleType):
            self._put("module", _identity(function))
        elif isinstance(function, type | BuiltinFunctionType | np.ufunc):
            home = sys.modules.get(getattr(function, "__module__", None) or "builtins")
            if isinstance(function, type) and not _is_installed(home):
                raise Unhashable(name)
            self._put("installed", f"{function!r} {_identity(home) if home else ''}")
        else:
            raise Unhashable(name)

    def _put(self, kind: str, text: str) -> None:
        self._digest.update(f"{kind} {len(text)} {text}\n".encode())

    def _add_array(self, value: Any) -> None:
        if value.dtype.hasobject:
            raise Unhashable("an array of objects")
        self._put("array", f"{value.dtype.descr!r} {value.shape}")
        self._digest.update(np.ascontiguousarray(value).tobytes())

    def _add_function(self, function: FunctionType) -> None:
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        home = sys.modules.get(function.__module__)
        if _is_installed(home):
            self._put("installed", f"{function.__module__}.{function.__qualname__} {_identity(home) if home else ''}")
            return
        self.add("code", function.__code__)
        self.add("defaults", function.__defaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.add(name, cell.cell_contents)
        self._add_names(function.__code__, function.__globals__)

    def _add_names(self, code: CodeType, scope: dict[str, Any]) -> None:
        """Add what the names in *code* stand for: globals, and attributes of modules that are not installed ones."""
        for name in code.co_names:
            if name in scope:
                value = scope[name]
                self.add(name, value)
                if isinstance(value, ModuleType) and not _is_installed(value):
                    self._add_attributes(code, value)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_names(constant, scope)

    def _add_attributes(self, code: CodeType, module: ModuleType) -> None:
        for name in code.co_names:
            if hasattr(module, name):
                self.add(f"{module.__name__}.{name}", getattr(module, name))

    def _add_code(self, code: CodeType) -> None:
        self._put("code", code.co_code.hex())
        self._put("names", repr((code.co_names, code.co_varnames, code.co_freevars, code.co_name)))
        for constant in code.co_consts:
            self.add("constant", constant)


def _is_installed(module: ModuleType | None) -> bool:
    """Return whether a module changes only with its version: of the standard library, or of an installed package.

    What compiles into the loop of nomx itself is in the name of the cache's folder.
    """
    if module is None:
        return False
    package, _, rest = module.__name__.partition(".")
    if package in sys.stdlib_module_names:
        return True
    if package == "nomx":
        return not rest or rest.partition(".")[0] in ROOMS
    source = getattr(module, "__file__", None) or ""
    return module.__name__ != "__main__" and source.startswith(_INSTALLED)


def _identity(module: ModuleType) -> str:
    """Name an installed module with its version; others have what is used of them added."""
    package = sys.modules.get(module.__name__.partition(".")[0])
    return f"{module.__name__} {getattr(package, '__version__', '')}"
