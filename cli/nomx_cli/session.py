"""A conversation with the daemon for the length of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nomx_cli.output import settings

if TYPE_CHECKING:
    from nomx.client.connection import Client


@contextmanager
def connected() -> Iterator[Client]:
    """Yield a client of the daemon that --socket names.

    Raises: NoDaemon: nobody answers there.
    """
    from nomx.client.connection import Client

    client = Client.connect(settings().socket)
    try:
        yield client
    finally:
        client.close()
