"""A set of handlers compiled for the simulated socket, once for all tests; one round of the serve loop at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from nomx.api.counters import NAMES, SLOTS
from nomx.compiled import compiled_uncached, inlined_uncached
from nomx.stack.batching import Delays, Held
from nomx.stack.delivery import FIRST_OWN, NO_HANDLER, PENDING, RAISED
from nomx.stack.guard import raise_pending
from nomx.stack.loop import begin, serve_burst
from tests.unit.datapath.simulated import OURS, SimulatedXsk

ECHO, SILENT, RAISES, OVERRUNS, GROWS, EMPTIES = 7, 8, 9, 10, 11, 12


AT_ONCE = Delays(0, 0)


@inlined_uncached
def dispatch(port, message, length, source_ip, source_port, states):
    if port == ECHO:
        return length
    if port == SILENT:
        return -1
    if port == RAISES:
        raise ValueError("the handler's own")
    if port == OVERRUNS:
        return message.size + 1
    if port == GROWS:  # answers with who asked, and as long as it may be
        message[:] = 0x55
        for byte in range(4):
            message[byte] = source_ip >> 24 - 8 * byte & 0xFF
        message[4] = source_port >> 8
        message[5] = source_port & 0xFF
        return message.size
    if port == EMPTIES:
        return 0
    return NO_HANDLER


@compiled_uncached
def _rounds(queue, interface, counters, states, memory, delays, now, rounds):
    cursors = begin(queue)
    held = Held(memory[0], memory[1], memory[2])
    ended = 0
    done = 0
    while done < rounds and ended == 0:
        cursors, held, _, ended = serve_burst(queue, cursors, held, delays, now, interface, counters, states, dispatch)
        done += 1
    memory[0], memory[1], memory[2] = held.rx_since, held.tx_since, held.staged
    if ended == RAISED:
        raise_pending(states[PENDING])
    return ended


class Loop:
    """The serve loop of one simulated socket, entered anew for each call; *delays* are its batching delays."""

    def __init__(self, xsk: SimulatedXsk, interface: Any = OURS, delays: Delays = AT_ONCE) -> None:
        self._xsk = xsk
        self._interface = interface
        self.delays = delays
        self._counters = np.zeros(SLOTS, np.int64)
        self._states = np.zeros(FIRST_OWN, np.int64)
        self._held = np.zeros(3, np.int64)

    def run(self, rounds: int = 1, now_ns: int = 0) -> int:
        """Run some rounds, all at the time *now_ns*."""
        fixed = (self._xsk.queue, self._interface, self._counters, self._states, self._held)
        return int(_rounds(*fixed, self.delays, now_ns, rounds))

    @property
    def staged(self) -> int:
        """How many answers are written and not submitted."""
        return int(self._held[2])

    @property
    def counters(self) -> dict[str, int]:
        """The counters that are not 0, without those of the loop's own rounds."""
        counted = dict(zip(NAMES, self._counters.tolist(), strict=False))
        return {name: value for name, value in counted.items() if value and name not in ("polls", "empty_polls")}

    def exchange(self, packet: bytes) -> bytes | None:
        """Give the loop one packet; the frame that it answers with, if any."""
        assert self._xsk.deliver(packet)
        self.run()
        self._xsk.transmit()
        self._xsk.complete()
        return self._xsk.sent.pop() if self._xsk.sent else None
