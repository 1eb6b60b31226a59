"""What the service tells the server: a lease began, a lease ended. The only way from it back to sockets and pidfds."""

from __future__ import annotations

from typing import Protocol

from nomx.api.lease import LeaseRecord


class Events(Protocol):
    """Called on the service's thread; must neither block nor raise."""

    def lease_began(self, record: LeaseRecord) -> None:
        """A lease was granted, or adopted from the journal: watch its holder."""

    def lease_ended(self, record: LeaseRecord) -> None:
        """Nothing of a lease remains: stop watching, and answer who waits for it."""
