"""`nomx trace`: kernel crossings of a lease, a process or a command; compared, explained, probed.

Reads the arguments, has `nomx_cli.tracing` find the targets and `nomx.trace` trace them, and shows
what was found through `nomx_cli.trace_view`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from nomx_cli.output import settings, show_json

COMMAND = "nomx.trace.command"
"""Where a context's meta holds the words after `--`."""

DEFAULT_HZ = 499
_VIEWS = ("syscall", "thread", "function", "cpu")
_FILE = click.Path(path_type=Path, dir_okay=False)


class _Group(click.Group):
    """A group whose first command is meant where none is named, and that takes a command's words out after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take out what is after `--`; name `live` where the first word is no command's."""
        if "--" in args:
            end = args.index("--")
            ctx.meta[COMMAND] = tuple(args[end + 1 :])
            args = args[:end]
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["live", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def command() -> None:
    """Count kernel crossings per packet, and say why they are there.

    \b
    nomx trace L1                  a lease, until Ctrl-C
    nomx trace 4711 -d 10          a process with its threads and children, for 10 s
    nomx trace L1 L2 4711          several at once, a table each
    nomx trace -- ./server -p 7    a command, from its start to its end

    Works on any program. Where no command is named, `live` is meant. It takes root, or CAP_BPF and
    CAP_PERFMON.
    """  # noqa: D301 (click's mark for lines that are not to be filled)


def _target_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how its targets are traced."""
    packets = "Where packets are counted: auto, lease, local (sockets and AF_XDP rings) or device:IFNAME."
    for option in (
        click.option("--user", metavar="NAME", help="Run the command as this user."),
        click.option("--packets", default="auto", show_default=True, metavar="WHERE", help=packets),
        click.option(
            "--no-softirqs", "softirqs", flag_value=False, default=True, help="Leave polls and interrupts out."
        ),
        click.option("--device", multiple=True, metavar="IFNAME", help="A device that is the target's."),
        click.option("-i", "--interval", type=float, default=1.0, show_default=True, help="Seconds of a sample."),
        click.option("-d", "--duration", type=float, metavar="SECONDS", help="How long."),
    ):
        function = option(function)
    return function


@command.command
@click.argument("targets", nargs=-1)
@_target_options
@click.option("--by", type=click.Choice(_VIEWS), default="syscall", show_default=True, help="The table at the end.")
@click.option("--csv", "csv_file", type=_FILE, help="Write a row an interval.")
@click.option("--timeline", type=_FILE, help="Write each event as JSON for ui.perfetto.dev.")
@click.option("--flame", type=_FILE, help="Draw where kernel time goes, as SVG.")
@click.option("--folded", type=_FILE, help="Write the stacks of kernel time, folded.")
@click.option("--figure", type=_FILE, help="Draw the intervals, as PNG or SVG.")
@click.option("--hz", type=click.IntRange(1, 10_000), default=DEFAULT_HZ, show_default=True, help="Stacks a second.")
@click.option("--verdicts", is_flag=True, help="Count XDP redirects and exceptions: these cost time on each frame.")
def live(targets: tuple[str, ...], by: str, **options: Any) -> None:
    """Trace TARGETS, leases and pids, together; or the command after `--`; or the only lease there is."""
    from nomx_cli.trace_view import show_gaps, show_report, show_sample
    from nomx_cli.tracing import Outputs, Tracing

    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs.opened(options))
        tracing = stack.enter_context(Tracing.of(targets, _command(), options, outputs, by))
        shown = False
        for samples in tracing.samples():
            for label, sample in samples.items():
                if not settings().as_json:
                    show_sample(label, sample, heading=not shown)
                    shown = True
        reports = tracing.reports()
        outputs.write(reports, tracing.session)
    if settings().as_json:
        show_json({"reports": reports})
    else:
        for report in reports:
            show_report(report, by)
        show_gaps(reports)


@command.command
@click.argument("targets", nargs=-1, required=True)
@_target_options
@click.option("--label", "labels", multiple=True, help="What to call a target, in the order of the targets.")
@click.option("--figure", type=_FILE, help="Draw the comparison, as PNG or SVG.")
def compare(targets: tuple[str, ...], labels: tuple[str, ...], figure: Path | None, **options: Any) -> None:
    """Put TARGETS side by side: leases and pids, traced together for --duration (10 s), or saved traces.

    A saved trace is a file that `nomx trace -j > FILE` wrote.
    """
    from nomx.trace import figures
    from nomx.trace.compare import compare as side_by_side
    from nomx_cli.trace_view import show_comparison
    from nomx_cli.tracing import reports_of

    if figure is not None:
        figures.check(figure)
    columns = side_by_side(reports_of(targets, _command(), options, default_duration_s=10.0), labels)
    if figure is not None:
        figures.draw(columns, figure)
    if settings().as_json:
        show_json({"columns": columns})
    else:
        show_comparison(columns)


@command.command
@click.argument("target", required=False)
@_target_options
def explain(target: str | None, **options: Any) -> None:
    """Say why TARGET crosses into the kernel, from --duration (5 s) of tracing, or from a saved trace."""
    from nomx.trace.explain import explain as causes_of
    from nomx_cli.trace_view import show_causes
    from nomx_cli.tracing import reports_of

    (report, *_) = reports_of([target] if target else [], _command(), options, default_duration_s=5.0)
    causes = causes_of(report)
    if settings().as_json:
        show_json({"target": report.target, "causes": causes, "gaps": report.gaps})
    else:
        show_causes(report, causes)


@command.command
@click.argument("what", metavar="FILE.c|EXPRESSION")
@click.option("--lease", metavar="LEASE", help="Only this lease's events.")
@click.option("--pid", type=int, help="Only this process's, with its threads and children.")
@click.option("--everywhere", is_flag=True, help="Everybody's events: softirqs run in anybody's place.")
@click.option("-d", "--duration", type=float, metavar="SECONDS", help="How long; else until Ctrl-C.")
def probe(what: str, lease: str | None, pid: int | None, everywhere: bool, duration: float | None) -> None:
    """Compile a probe of your own with bcc, filtered to a target, and print its tables at the end.

    \b
    nomx trace probe 'napi_poll { hist(work) }' --everywhere -d 5
    nomx trace probe 'sys_enter /id == 44/ { count(comm) }' --lease L1
    nomx trace probe my.c --pid 4711

    The C is bcc's. Where a table's name has `hist` or `dist` in it, it is printed as a histogram.
    """  # noqa: D301
    from nomx_cli.trace_view import show_probe
    from nomx_cli.tracing import run_probe

    tables = run_probe(what, lease, pid, everywhere, duration)
    if settings().as_json:
        show_json({"tables": tables})
    else:
        show_probe(tables)


@command.command
@click.argument("target")
def pin(target: str) -> None:
    """Pin a map with the cgroup of TARGET, for stock bcc tools: opensnoop-bpfcc --cgroupmap PATH."""
    from nomx.trace import pins
    from nomx_cli.tracing import resolved

    with resolved(target) as found:
        path = pins.pin(found)
    if settings().as_json:
        show_json({"path": str(path)})
    else:
        click.echo(path)


@command.command
@click.argument("target")
def unpin(target: str) -> None:
    """Take the pinned map of TARGET away."""
    from nomx.trace import pins

    removed = pins.unpin(target)
    if settings().as_json:
        show_json({"removed": removed})
    elif not removed:
        click.echo(f"nothing was pinned for {target}", err=True)


def _command() -> tuple[str, ...]:
    """Return the words after `--`."""
    words: tuple[str, ...] = click.get_current_context().meta.get(COMMAND, ())
    return words
