"""Tune loops that are running: how they wait, and for how long they hold packets. The knobs of adaptation.

`nomx.serve` takes the first values; from then on any thread of the application may turn them, and
each loop goes by the new ones at its next round.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nomx.app.control import DEFAULT_SPIN_US, LoopControl, delays_of, spin_ns_of
from nomx.stack.batching import Delays


@dataclass(frozen=True)
class Tuning:
    """What can be tuned; times in microseconds."""

    wait: str = "adaptive"
    """`adaptive` looks at empty rings for *spin_us*, then sleeps; `spin` never sleeps; `interrupt` sleeps at once;
    `busy-poll` never sleeps, and has the kernel poll the device in the application's own time."""
    spin_us: float = DEFAULT_SPIN_US
    rx_delay_us: float = 0.0
    """How long packets that came in may be held, so that more are handled at once; 0: handled as they come."""
    tx_delay_us: float = 0.0
    """How long answers may be held, so that one call of the kernel sends more; 0: sent with their batch."""

    def check(self) -> Delays:
        """Give the delays as a loop takes them. Raises: InvalidRequest: a value that cannot be, of any knob."""
        spin_ns_of(self.wait, self.spin_us)
        return delays_of(self.rx_delay_us, self.tx_delay_us)

    def apply(self, controls: Sequence[LoopControl]) -> None:
        """Set loops, all or none. Raises: InvalidRequest: a value that cannot be."""
        delays = self.check()
        for control in controls:
            control.check_wait(self.wait)
        for control in controls:
            control.set_wait(self.wait, self.spin_us)
            control.set_delays(delays)


class _Serving:
    """The loops that this process runs now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._controls: tuple[LoopControl, ...] = ()
        self._tuning = Tuning()

    @contextlib.contextmanager
    def loops(self, controls: Sequence[LoopControl], tuning: Tuning) -> Iterator[None]:
        with self._lock:
            tuning.apply(controls)
            self._controls, self._tuning = tuple(controls), tuning
        try:
            yield
        finally:
            with self._lock:
                self._controls = ()

    def tune(self, **changes: object) -> Tuning:
        with self._lock:
            tuning = replace(self._tuning, **changes)  # type: ignore[arg-type]
            tuning.apply(self._controls)
            self._tuning = tuning
            return tuning


SERVING = _Serving()


def tune(
    *,
    wait: str | None = None,
    spin_us: float | None = None,
    rx_delay_us: float | None = None,
    tx_delay_us: float | None = None,
) -> Tuning:
    """Turn the knobs of the loops that `nomx.serve` runs in this process, from any thread; how they stand now.

    What is not given stays. Before `serve` and after it, nothing is running and nothing changes but
    what is returned. Raises: InvalidRequest: a value that cannot be; then nothing has changed.
    """
    given = {"wait": wait, "spin_us": spin_us, "rx_delay_us": rx_delay_us, "tx_delay_us": tx_delay_us}
    return SERVING.tune(**{name: value for name, value in given.items() if value is not None})
