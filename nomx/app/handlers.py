"""Handlers: what an application registers to answer datagrams with. Imports neither NumPy nor Numba, and costs nothing.

An echo server is:

    @nomx.udp(7)
    def echo(message, length):
        return length

    nomx.serve()

Applications import these names from `nomx`.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from nomx.errors import InvalidRequest

ARGUMENTS = ("message", "length", "state", "source_ip", "source_port")
"""What a handler may ask for, by the names of its parameters."""

NO_REPLY = -1
"""Returned by a handler that does not answer."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_log = logging.getLogger("nomx.app")


@dataclass(frozen=True)
class Handler:
    """A function that answers the datagrams to one port."""

    port: int
    function: FunctionType
    arguments: tuple[str, ...]
    """Of ARGUMENTS, in the order of its parameters."""
    state: Any = None
    """A C-contiguous NumPy array, shared by all queues, or None."""
    boundscheck: bool = True

    @property
    def name(self) -> str:
        return self.function.__qualname__


class Registry:
    """The handlers of one application, by port."""

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self.served = False
        """Whether anyone ever called serve."""

    def __iter__(self) -> Iterator[Handler]:
        return iter(sorted(self._handlers.values(), key=lambda handler: handler.port))

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, port: int, function: Any, state: Any, *, boundscheck: bool) -> None:
        """Register *function* for *port*. Raises: InvalidRequest: naming what is wrong with it."""
        _check_port(port)
        if port in self._handlers:
            expected = f"one handler a port: {self._handlers[port].name} has it"
            raise InvalidRequest(field="port", value=f"{port} (again)", expected=expected)
        arguments = _arguments(function)
        _check_state(function, state, arguments)
        self._handlers[port] = Handler(port, function, arguments, state, boundscheck)

    def remind(self) -> None:
        """Say so at exit when handlers were registered and nobody served them."""
        if self._handlers and not self.served and not hasattr(sys, "last_type"):
            names = ", ".join(handler.name for handler in self)
            _log.warning("handlers were registered (%s) but nomx.serve() was never called: nothing was answered", names)


REGISTRY = Registry()
"""What `@nomx.udp` registers with."""

atexit.register(REGISTRY.remind)


def udp(port: int, state: Any = None, *, boundscheck: bool = True) -> Callable[[_Function], _Function]:
    """Answer UDP datagrams to *port* with the decorated function, which `nomx.serve` compiles.

    The function's parameters, by name: `message`, uint8 array: the datagram's payload in place, and
    as much room behind it as an answer may have; `length`: the request is `message[:length]`;
    `state`: the array given here; `source_ip`, `source_port`: of the sender, integers. It returns
    n, and the answer is `message[:n]`; or NO_REPLY.

    *state*: a C-contiguous NumPy array that the handler keeps what it likes in. Every queue's loop
    works on the same one, at the same time. *boundscheck* False leaves out the check of array
    indices in the handler, which otherwise raises IndexError there.
    Raises: InvalidRequest: a bad or taken port, an unknown parameter, a state that is no such array.
    """

    def register(function: _Function) -> _Function:
        REGISTRY.add(port, function, state, boundscheck=boundscheck)
        return function

    return register


def _check_port(port: Any) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise InvalidRequest(field="port", value=repr(port), expected="an integer from 1 to 65535")


def _arguments(function: Any) -> tuple[str, ...]:
    """Return the parameters of a handler, each of ARGUMENTS."""
    if not isinstance(function, FunctionType):
        raise InvalidRequest(field="handler", value=repr(function), expected="a function, undecorated")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise InvalidRequest(
            field="handler", value=function.__qualname__, expected="an ordinary function: no yield, not async"
        )
    expected = f"parameters named {', '.join(ARGUMENTS)}, of which it takes those that it needs"
    for parameter in inspect.signature(function).parameters.values():
        positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
        if parameter.name not in ARGUMENTS or not positional:
            value = f"{function.__qualname__}(... {parameter} ...)"
            raise InvalidRequest(field="handler", value=value, expected=expected)
    return tuple(inspect.signature(function).parameters)


def _check_state(function: FunctionType, state: Any, arguments: tuple[str, ...]) -> None:
    name = function.__qualname__
    if state is None:
        if "state" in arguments:
            raise InvalidRequest(field="state", value="None", expected=f"an array for {name}, which takes one")
        return
    flags = getattr(state, "flags", None)
    if flags is None or not (flags.c_contiguous and flags.writeable) or state.ndim == 0 or state.dtype.hasobject:
        expected = "a writeable C-contiguous NumPy array of numbers, not 0-d"
        raise InvalidRequest(field="state", value=type(state).__name__, expected=expected)
    if "state" not in arguments:
        raise InvalidRequest(field="state", value=f"{name} has no such parameter", expected="a parameter named state")
