"""`nomx run`: an application on a lease of its own, from grant to summary; it exits as the application did."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomx.api.lease import PATHS, REQUIREMENTS, LeaseSpec, RingSizes, UmemGeometry
from nomx.errors import InvalidRequest, NoDaemon
from nomx.types import parse_rate_bps, parse_size_bytes
from nomx_cli.output import settings, show_json
from nomx_cli.session import connected

if TYPE_CHECKING:
    from nomx.api.messages import Planned

STATS = ("end", "live", "none")
_GEOMETRY = UmemGeometry()


class RunCommand(click.Command):
    """A command whose own options end at the application, as Python's do: what follows `-m MODULE` or APP is its."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the application, and leave its own alone."""
        end = self._end_of_module_option(args)
        return super().parse_args(ctx, [*args[:end], "--", *args[end:]] if end else args)

    def _end_of_module_option(self, args: list[str]) -> int:
        """Give the index after `-m MODULE` where that stands among our own options, else 0."""
        valued = {
            name for each in self.params if isinstance(each, click.Option) and not each.is_flag for name in each.opts
        }
        index = 0
        while index < len(args) and args[index].startswith("-") and args[index] != "--":
            option = args[index]
            index += 2 if option in valued else 1
            if option in ("-m", "--module"):
                return index
        return 0


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@click.option(
    "--cores",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="CPUs for the application alone; 0 shares the pool.",
)
@click.option("--memory", metavar="SIZE", help="Memory limit, device memory included, such as 512M.  [default: none]")
@click.option("--path", type=click.Choice(PATHS), help="Take this path, or fail.  [default: the highest there is]")
@click.option("--require", type=click.Choice(REQUIREMENTS), multiple=True, help="Refuse a device without it.")
@click.option(
    "--queues",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Queues of the device, one polling loop each.",
)
@click.option("--bandwidth", metavar="RATE", help="Limit what the device sends, such as 1Gbit.  [default: none]")
@click.option("--address", metavar="IPV4", help="The device's address.  [default: the next free one]")
@click.option("--user", metavar="USER", help="Run the application as this user.  [default: who runs nomx]")
@click.option("--name", default="", metavar="TEXT", help="A name for the lease, for people.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=_GEOMETRY.frames_per_queue,
    show_default=True,
    metavar="N",
    help="Frames of device memory a queue.",
)
@click.option(
    "--ring-size",
    type=click.IntRange(1),
    default=_GEOMETRY.rings.rx,
    show_default=True,
    metavar="N",
    help="Descriptors in each receive and transmit ring; a power of two.",
)
@click.option("--huge-pages", is_flag=True, help="Make the device memory of huge pages.")
@click.option("--busy-poll", is_flag=True, help="Let the application poll its device itself (wait strategy busy-poll).")
@click.option("--no-count", is_flag=True, help="Do not count kernel crossings.")
@click.option(
    "--stats",
    type=click.Choice(STATS),
    default="end",
    show_default=True,
    help="When to tell what happened, on standard error: at the end, each second too, or never.",
)
@click.option("--dry-run", is_flag=True, help="Print what the daemon would do, and change nothing.")
@click.option("-m", "--module", metavar="MODULE", help="Run this module as the application, as python -m does.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[APP] [ARGS]...")
def command(module: str | None, command: tuple[str, ...], **options: Any) -> None:
    """Run a Python application on a device of its own.

    APP is a script, as for python itself; ARGS are its own. It runs as USER with no capability
    and in the host's network namespace, and finds its device through `import nomx`. At its end
    the path, the packets, the kernel crossings a packet, and the drops are told on standard error.

    The exit code is the application's own; 128 plus the number of the signal that ended it; 3 if
    no daemon answers, and 4 if the request is refused.
    """
    argv = application(module, command)
    spec = LeaseSpec(
        name=options["name"] or module or Path(command[0]).stem,
        path=options["path"],
        require=options["require"],
        cores=options["cores"],
        memory_bytes=parse_size_bytes(options["memory"], "memory") if options["memory"] else None,
        queues=options["queues"],
        bandwidth_bps=parse_rate_bps(options["bandwidth"]) if options["bandwidth"] else None,
        address=options["address"],
        count_crossings=not options["no_count"],
        busy_poll=options["busy_poll"],
    )
    if options["dry_run"]:
        show_plan(spec)
        return
    umem = geometry(options["frames"], options["ring_size"], huge_pages=options["huge_pages"])
    click.get_current_context().exit(run(argv, spec, options["user"], umem, options["stats"]))


def application(module: str | None, command: tuple[str, ...]) -> list[str]:
    """Give the command line of the application under this process's own interpreter.

    Raises: InvalidRequest: no application was named, or the script is not there.
    """
    if module is not None:
        return [sys.executable, "-m", module, *command]
    if not command:
        raise InvalidRequest(field="APP", value="nothing", expected="a script, or -m MODULE")
    if not Path(command[0]).is_file():
        raise InvalidRequest(field="APP", value=repr(command[0]), expected="a script that exists, or -m MODULE")
    return [sys.executable, *command]


def geometry(frames: int, ring_size: int, *, huge_pages: bool) -> UmemGeometry:
    """Lay out device memory with *frames* a queue; the fill ring is twice the others, so that it never lacks room."""
    rings = RingSizes(rx=ring_size, tx=ring_size, fill=2 * ring_size, completion=ring_size)
    return UmemGeometry(frames_per_queue=frames, rings=rings, huge_pages=huge_pages)


def show_plan(spec: LeaseSpec) -> None:
    """Print what the daemon would do for *spec*: the path, why not a higher one, and each step."""
    plan = planned(spec)
    if settings().as_json:
        show_json(plan)
        return
    click.echo(f"path {plan.path}")
    for verdict in plan.verdicts:
        click.echo(f"  not {verdict.path}: {verdict.reason}")
    for action in plan.actions:
        click.echo(f"  {action}")


def planned(spec: LeaseSpec) -> Planned:
    """Ask the daemon for its plan; root without one asks a daemon of its own, as `run` would start it."""
    try:
        with connected() as client:
            return client.plan(spec)
    except NoDaemon:
        if os.geteuid() != 0 or settings().socket is not None:
            raise
    from nomx.client.embedded import Embedded

    embedded = Embedded.start()
    try:
        with connected() as client:
            return client.plan(spec)
    finally:
        embedded.stop()


def run(argv: list[str], spec: LeaseSpec, user: str | None, umem: UmemGeometry, stats: str) -> int:
    """Launch the application, wait for its end, and tell what happened; gives its exit code."""
    from nomx.client.launch import Launch

    launch = Launch.start(argv, spec, user, umem, settings().socket)
    from nomx_cli.summary import grant_lines, report, report_lines  # while the application starts

    if not settings().as_json:
        for line in grant_lines(launch.grant):
            click.echo(f"nomx: {line}", err=True)
    outcome = launch.wait(Ticker() if stats == "live" else None)
    if stats != "none":
        told = report(launch.grant, outcome.status, outcome.counters, outcome.exit_code, outcome.signal)
        if settings().as_json:
            show_json(told, err=True)
        else:
            for line in report_lines(told, outcome.unknown):
                click.echo(f"nomx: {line}", err=True)
    return outcome.exit_code


class Ticker:
    """Tells what an application's I/O library has counted since the time before."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._then_ns = time.monotonic_ns()

    def __call__(self, counters: dict[str, int]) -> None:
        """Take the counters as they are now, and tell what is new."""
        now_ns = time.monotonic_ns()
        seconds = (now_ns - self._then_ns) / 1e9
        from nomx_cli.summary import live_line

        since = {name: count - self._before.get(name, 0) for name, count in counters.items()}
        if settings().as_json:
            show_json({"seconds": seconds, "counters": since}, err=True)
        else:
            click.echo(f"nomx: {live_line(since, seconds)}", err=True)
        self._before, self._then_ns = counters, now_ns
