"""A worker: the thread that runs one serve loop, on its own CPU where the lease has one for it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

from nomx.app.control import LoopControl
from nomx.app.watch import HandlerWatch
from nomx.linux import process

_DOWN_GRACE_S = 1.0
"""How long a device may be down (its link is being changed) before it counts as taken away."""

_DOWN_STEP_S = 0.02

_TIMER_SLACK_NS = 1
"""Held packets are waited for by the clock, so a thread that naps wakes when it said."""


class Worker:
    """Runs *loop* until it ends, and reports what ended it."""

    def __init__(
        self, name: str, loop: Callable[[], int], control: LoopControl, watch: HandlerWatch, cpu: int | None
    ) -> None:
        self._loop = loop
        self._watch = watch
        self._cpu = cpu
        self.control = control
        self.ended = threading.Event()
        self.gone = 0
        """The errno by which the device went, 0 when it did not."""
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        try:
            process.set_timer_slack(_TIMER_SLACK_NS)
            if self._cpu is not None:
                os.sched_setaffinity(0, {self._cpu})
            self._serve()
        except BaseException as failure:
            self.failure = failure
        finally:
            self.ended.set()

    def _serve(self) -> None:
        down_since = 0.0
        while not self.control.stopped:
            errors = self._watch.errors
            code = 0
            try:
                code = self._loop()
            except Exception as error:
                if self._watch.errors == errors:
                    raise  # it was not a handler
                self._watch.raised(error)
            now = time.monotonic()
            if code == 0:
                down_since = 0.0
            elif code != -errno.ENETDOWN or (down_since and now - down_since > _DOWN_GRACE_S):
                self.gone = -code
                return
            else:
                down_since = down_since or now
                time.sleep(_DOWN_STEP_S)

    def look(self) -> None:
        """Tell what a handler does that the loop itself cannot tell; called now and then while it runs."""
        self._watch.look()

    @property
    def busy_in(self) -> str:
        """The name of the handler that runs at this moment; empty: none."""
        return self._watch.running
