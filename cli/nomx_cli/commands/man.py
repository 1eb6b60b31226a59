"""`nomx man`: the manual page, made from the commands themselves."""

from __future__ import annotations

import click

from nomx_cli.output import settings, show_json


@click.command
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print the manual page. To read it: `nomx man | man -l -`."""
    from dataclasses import asdict

    from nomx.version import VERSION
    from nomx_cli.manual import entries, man_page

    top = ctx.find_root().command
    if settings().as_json:
        show_json({"commands": [asdict(entry) for entry in entries(top)]})
    else:
        click.echo(man_page(top, VERSION), nl=False)
