"""A conversation with the daemon for the length of one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomx_cli.output import settings

if TYPE_CHECKING:
    from nomx.client.connection import Client


def connected() -> Client:
    """Connect to the daemon that --socket names; a context manager.

    Raises: NoDaemon: nobody answers there.
    """
    from nomx.client.connection import Client

    return Client.connect(settings().socket)
