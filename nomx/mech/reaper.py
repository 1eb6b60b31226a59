"""Deletes the interfaces of ports that were cut off, on a thread of its own.

The kernel waits two grace periods, some 20 ms, when an interface is deleted. A lease need not wait
for that, and still less the next one: only who wants the same name again does.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nomx.linux.links import Links

_log = logging.getLogger("nomx.mech.reaper")


class Reaper:
    """Deletes interfaces in one namespace, in the order they were given. All calls but its own come from one thread."""

    def __init__(self, namespace: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nomx-reaper")
        self._links = self._thread.submit(Links, namespace).result()  # a Links has one thread
        self._pending: dict[str, Future[None]] = {}

    def delete(self, ifname: str) -> None:
        """Delete an interface soon; one that is not there is deleted already."""
        self._pending = {name: future for name, future in self._pending.items() if not future.done()}
        self._pending[ifname] = self._thread.submit(self._delete, ifname)

    def _delete(self, ifname: str) -> None:
        try:
            self._links.delete(ifname)
        except OSError as error:  # the next daemon's sweep finds it, and who wants its name is told
            _log.error("interface stays name=%s: %s", ifname, error)

    def wait_for(self, ifname: str) -> None:
        """Return when a deletion of *ifname* that was asked for has been done."""
        if pending := self._pending.pop(ifname, None):
            pending.result()

    def close(self) -> None:
        """Delete what is left to delete, and end the thread."""
        self._thread.submit(self._links.close).result()
        self._thread.shutdown()
