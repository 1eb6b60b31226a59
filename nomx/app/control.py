"""The words between Python and a serve loop: stop, how to wait, how long to hold, and what wakes a loop that sleeps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from nomx.errors import InvalidRequest
from nomx.sockets.messages import POLL
from nomx.stack.batching import MAX_DELAY_US, Delays
from nomx.stack.loop import SPIN, Control

WAITS = ("adaptive", "spin", "interrupt", "busy-poll")
"""Wait strategies: look for a while and then sleep; always look; sleep at once; always have the device polled."""

DEFAULT_SPIN_US = 50
"""How long `adaptive` looks: several times what falling asleep and being woken takes."""

_POLLIN = 1
_STOP, _SPIN_NS, _BUSY_POLL, _RX_DELAY_NS, _TX_DELAY_NS, _TIMESPEC = 0, 1, 2, 3, 4, 5
_WORDS = 7


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

    def __init__(
        self, fds: Sequence[int], bell: Bell, *, looking_calls: bool = False, busy_polled: bool = False
    ) -> None:
        """Lay out the block of a loop that waits on *fds*; it sleeps at once and holds nothing.

        *looking_calls*: to look for packets takes a system call (the kernel path), so `adaptive` is `interrupt`.
        *busy_polled*: calls on the socket poll its device.
        """
        self._words = np.zeros(_WORDS, np.int64)
        self._pollfds = np.zeros(len(fds) + 1, POLL)
        self._pollfds["fd"] = [*fds, bell.fd]
        self._pollfds["events"] = _POLLIN
        self._bell = bell
        self._looking_calls = looking_calls
        self._busy_polled = busy_polled
        base = self._words.ctypes.data
        self.addresses = Control(
            stop=base + 8 * _STOP,
            spin_ns=base + 8 * _SPIN_NS,
            busy_poll=base + 8 * _BUSY_POLL,
            rx_delay_ns=base + 8 * _RX_DELAY_NS,
            tx_delay_ns=base + 8 * _TX_DELAY_NS,
            pollfds=self._pollfds.ctypes.data,
            timespec=base + 8 * _TIMESPEC,
        )

    def check_wait(self, wait: str) -> None:
        """Raise InvalidRequest where the loop cannot wait so."""
        if wait == "busy-poll" and not self._busy_polled:
            waits = ", ".join(each for each in WAITS if each != wait)
            expected = f"one of {waits}; or a device that is polled by its application (nomx run --busy-poll)"
            raise InvalidRequest(field="wait", value=repr(wait), expected=expected)

    def set_wait(self, wait: str, spin_us: float) -> None:
        """Choose how the loop waits, one of WAITS; *spin_us* is how long `adaptive` looks."""
        spin_ns = spin_ns_of(wait, spin_us)
        self._words[_SPIN_NS] = 0 if self._looking_calls and spin_ns != SPIN else spin_ns
        self._words[_BUSY_POLL] = int(wait == "busy-poll")

    def set_delays(self, delays: Delays) -> None:
        """Choose how long the loop may hold packets; what is held already goes by the new delays."""
        self._words[_RX_DELAY_NS], self._words[_TX_DELAY_NS] = delays

    def words(self) -> dict[str, int]:
        """Read the knobs as the loop sees them, in ns."""
        knobs = {"spin_ns": _SPIN_NS, "rx_delay_ns": _RX_DELAY_NS, "tx_delay_ns": _TX_DELAY_NS}
        return {name: int(self._words[word]) for name, word in knobs.items()}

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
    return {"interrupt": 0, "adaptive": int(spin_us * 1000)}.get(wait, SPIN)


def delays_of(rx_us: float, tx_us: float) -> Delays:
    """Translate batching delays. Raises: InvalidRequest: one that is below 0 or above MAX_DELAY_US."""
    for name, value in (("rx_delay_us", rx_us), ("tx_delay_us", tx_us)):
        if not 0 <= value <= MAX_DELAY_US:
            raise InvalidRequest(field=name, value=value, expected=f"0 to {MAX_DELAY_US} microseconds")
    return Delays(int(rx_us * 1000), int(tx_us * 1000))
