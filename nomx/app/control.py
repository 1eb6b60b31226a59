"""The words between the main thread and a serve loop: stop, how to wait, and what wakes a loop that sleeps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from nomx.errors import InvalidRequest
from nomx.sockets.messages import POLL
from nomx.stack.loop import SPIN, Control

WAITS = ("adaptive", "spin", "interrupt")
"""Wait strategies: look for a while and then sleep; always look; sleep at once."""

DEFAULT_SPIN_US = 50
"""How long `adaptive` looks: several times what falling asleep and being woken takes."""

_POLLIN = 1
_STOP, _SPIN_NS, _TIMESPEC = 0, 1, 2


class Bell:
    """An eventfd that wakes every loop; a context manager."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class LoopControl:
    """The control block of one loop, which reads it while Python writes."""

    def __init__(self, fds: Sequence[int], bell: Bell, spin_ns: int) -> None:
        self._words = np.zeros(4, np.int64)
        self._pollfds = np.zeros(len(fds) + 1, POLL)
        self._pollfds["fd"] = [*fds, bell.fd]
        self._pollfds["events"] = _POLLIN
        self._bell = bell
        self.set_wait(spin_ns)
        base = self._words.ctypes.data
        self.addresses = Control(
            stop=base + 8 * _STOP,
            spin_ns=base + 8 * _SPIN_NS,
            pollfds=self._pollfds.ctypes.data,
            timespec=base + 8 * _TIMESPEC,
        )

    def set_wait(self, spin_ns: int) -> None:
        """Choose how long the loop looks before it sleeps; SPIN: it never sleeps."""
        self._words[_SPIN_NS] = spin_ns

    def stop(self) -> None:
        """End the loop, asleep or not."""
        self._words[_STOP] = 1
        self._bell.ring()

    @property
    def stopped(self) -> bool:
        return bool(self._words[_STOP])


def spin_ns_of(wait: str, spin_us: float) -> int:
    """Translate a wait strategy. Raises: InvalidRequest: there is none of that name, or a time below 0."""
    if wait not in WAITS:
        raise InvalidRequest(field="wait", value=repr(wait), expected=f"one of {', '.join(WAITS)}")
    if spin_us < 0:
        raise InvalidRequest(field="spin_us", value=spin_us, expected="0 or more microseconds")
    return {"spin": SPIN, "interrupt": 0, "adaptive": int(spin_us * 1000)}[wait]
