"""What handlers do wrong, told once by name: they raise, claim longer replies than there is room for, never return."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from nomx.stack.counted import HANDLER_ERRORS, POLLS, REPLIES, REPLY_OVERRUNS
from nomx.stack.delivery import OVERRUNNER, RAISER, RUNNING, States
from nomx.stack.interface import Counters

_log = logging.getLogger("nomx.app")

ON_ERROR = ("count", "stop")
"""What becomes of a handler's exception: the datagram is dropped and counted; or serving ends with it."""

_STUCK_S = 2.0
"""How long a handler may take for one datagram before it is told."""


class HandlerWatch:
    """Watches the handlers of one loop, by what the loop writes down of them."""

    def __init__(self, names: Mapping[int, str], counters: Counters, states: States, on_error: str = "count") -> None:
        """Watch the handlers called *names*, by port."""
        self._names = names
        self._counters = counters
        self._states = states
        self._on_error = on_error
        self._told: set[str] = set()
        self._overruns = self.overruns
        self._progress = (-1, -1)
        self._progress_at = 0.0

    @property
    def errors(self) -> int:
        return int(self._counters[HANDLER_ERRORS])

    @property
    def overruns(self) -> int:
        return int(self._counters[REPLY_OVERRUNS])

    @property
    def running(self) -> str:
        """The name of the handler that runs at this moment; empty: none."""
        return self._name(RUNNING)

    def raised(self, error: Exception) -> None:
        """Log the first exception of each handler, with the line it came from; or raise it, if that was asked for."""
        if self._on_error == "stop":
            raise error
        name = self._name(RAISER)
        self._once(
            f"raise {name}",
            f"handler {name} raised: its datagram is dropped and counted as handler_errors; more are only counted",
            error,
        )

    def look(self) -> None:
        """Tell of replies that were too long, and of a handler that has not returned for long."""
        if self.overruns > self._overruns:
            self._overruns = self.overruns
            name = self._name(OVERRUNNER)
            text = f"handler {name} claimed a longer reply than there is room for: dropped, counted as reply_overruns"
            self._once(f"overrun {name}", text)
        progress = int(self._counters[POLLS]), int(self._counters[REPLIES])
        now = time.monotonic()
        if progress != self._progress or not self.running:
            self._progress, self._progress_at = progress, now
        elif now - self._progress_at >= _STUCK_S:
            text = f"handler {self.running} has not returned for {_STUCK_S:.0f} s: its queue stands still"
            self._once(f"stuck {self.running}", text)

    def _name(self, word: int) -> str:
        return self._names.get(int(self._states[word]), "")

    def _once(self, what: str, text: str, error: Exception | None = None) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.error(text, exc_info=error)
