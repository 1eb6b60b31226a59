"""`nomx`: the entrance of the command line. Finds the command, runs it, and turns what failed into an exit code.

A command's module is imported when it is named, and imports what it works with when it runs, so
that `nomx run` costs little over the application's own start.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from nomx.errors import NomxError
from nomx_cli.exits import FAILED, code_of
from nomx_cli.output import Settings, show_error

COMMANDS = {
    "run": "run an application on its own device",
    "lease": "who holds what",
    "device": "device units, and network namespaces joined to them",
    "trace": "kernel crossings per packet, and why",
    "market": "markets to try before one is trusted with a machine",
    "doctor": "what this machine can do, and how to mend what it cannot",
    "daemon": "the daemon that hands resources out",
    "demo": "the paths compared, in one table",
    "completion": "completion for a shell",
    "man": "the manual page",
    "version": "which version this is",
}
"""Every command in the order of the manual: its object is `nomx_cli.commands.<name>.command`."""


_COLLECT_SELDOM = 50_000


class CommandLine(click.Group):
    """The top of the command tree: imports a command when it is named, and explains what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the manual's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"nomx_cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return _with_json(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a NomxError becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except NomxError as error:
            show_error(error)
            ctx.exit(code_of(error))


def _choose_json(ctx: click.Context, _: click.Parameter, chosen: bool) -> None:
    settings = ctx.find_root().ensure_object(Settings)
    settings.as_json = settings.as_json or chosen


def _json_option() -> click.Option:
    return click.Option(
        ["-j", "--json"],
        is_flag=True,
        expose_value=False,
        callback=_choose_json,
        help="Print JSON with stable keys.",
    )


def _with_json(command: click.Command) -> click.Command:
    """Give *command*, and each command below it, the option -j, so that it may stand before or after the name."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _with_json(each)
    elif not any("-j" in parameter.opts for parameter in command.params):
        command.params.append(_json_option())
    return command


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-j",
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_choose_json,
    is_eager=True,
    help="Print JSON with stable keys; may stand after the command too.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="NOMX_SOCKET",
    show_envvar=True,
    help="The daemon's control socket.  [default: /run/nomx/nomxd.sock]",
)
@click.pass_context
def cli(ctx: click.Context, socket: Path | None) -> None:
    """Run applications that drive their own network devices.

    The daemon hands out cores, memory and devices, and is never on the path of a packet:
    frames go from the device to rings that the application reads itself. `nomx run app.py`
    takes the highest path that this machine gives, says which, and says why not a higher one.
    """
    ctx.ensure_object(Settings).socket = socket


def main() -> NoReturn:
    """Run `nomx` with the arguments of this process, and exit.

    Imports make many objects and no garbage, so the collector is told to look seldom; and what the
    kernel frees at once is not taken apart first. `nomx run` is some 20 ms shorter for it.
    """
    gc.set_threshold(_COLLECT_SELDOM)
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader has gone, and wanted no more
        code = code or FAILED
    os._exit(code)


def _run() -> int:
    """Run the command; its exit code."""
    try:
        code = cli.main(prog_name="nomx", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("nomx: interrupted", err=True)
        return FAILED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILED


if __name__ == "__main__":
    main()
