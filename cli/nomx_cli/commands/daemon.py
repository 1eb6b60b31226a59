"""`nomx daemon`: becomes the daemon, in the foreground; a service manager or a terminal holds it."""

from __future__ import annotations

import click

ARGUMENTS = {"ignore_unknown_options": True}


@click.command(context_settings=ARGUMENTS, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Be the daemon, in the foreground, until SIGTERM or Ctrl-C.

    It hands out cores, memory and device units over a Unix socket, and carries no packet:
    applications go on when it dies, and a new one takes their leases over. ARGUMENTS are the
    daemon's own (--instance, --socket, --group, --prefix): `nomx daemon --help` lists them.
    """
    import os
    import sys

    # -P: root's daemon imports nothing from the directory that it happens to be started in.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "nomx.daemon", *arguments])
