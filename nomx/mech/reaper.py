"""Deletes the interfaces of ports that were cut off, and closes their sockets, on a thread of its own.

The kernel waits two grace periods, some 20 ms, when an interface is deleted, and one when the last
descriptor of an XSK is closed. A lease need not wait for that, and still less the next one: only who
wants the same name again does. So the daemon keeps a descriptor of each XSK, unused, until its lease
has ended, or the application's own exit would take that much longer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
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
        self._kept: dict[str, tuple[int, ...]] = {}

    def keep(self, ifname: str, fds: Sequence[int]) -> None:
        """Keep descriptors of an interface's sockets until it is deleted."""
        self._kept[ifname] = tuple(os.dup(fd) for fd in fds)

    def delete(self, ifname: str) -> None:
        """Delete an interface soon; one that is not there is deleted already."""
        self._pending = {name: future for name, future in self._pending.items() if not future.done()}
        self._pending[ifname] = self._thread.submit(self._delete, ifname)
        for fd in self._kept.pop(ifname, ()):
            self._thread.submit(os.close, fd)  # behind the deletion, for which somebody may wait

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
        """Delete what is left to delete, and end the thread; leases that live on lose our copies of sockets alone."""
        self._thread.submit(self._links.close).result()
        self._thread.shutdown()
        for fds in self._kept.values():
            for fd in fds:
                os.close(fd)
