"""`nomx version`: which version of nomx this is, and of what it stands on."""

from __future__ import annotations

import click

from nomx_cli.output import settings, show_json


@click.command
def command() -> None:
    """Say which version of nomx this is, and of the Python and kernel under it."""
    import platform

    from nomx.version import VERSION

    versions = {"nomx": VERSION, "python": platform.python_version(), "kernel": platform.release()}
    if settings().as_json:
        show_json(versions)
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
