"""`nomx doctor`: what this machine can do; each path yes or no, why, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import click

from nomx_cli.output import settings, show_json

if TYPE_CHECKING:
    from nomx.client.doctor import Diagnosis


class Judged(Protocol):
    """What findings and verdicts have in common."""

    @property
    def available(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def remedy(self) -> str: ...


@click.command
def command() -> None:
    """Tell what this machine can do: each path, yes or no, why, and how to mend it.

    Every feature is tried, with the privileges of who asks; no version is looked at. Where a
    daemon answers, what it hands out is told as well, and that is what counts for `nomx run`.
    """
    from nomx.client.doctor import diagnose

    diagnosis = diagnose(settings().socket)
    if settings().as_json:
        show_json(diagnosis)
        return
    _show_features(diagnosis)
    click.echo()
    _show_paths(diagnosis)


def _show_features(diagnosis: Diagnosis) -> None:
    click.secho("What this machine gives (tried, with the privileges you have)", bold=True)
    _show([(finding.feature, finding) for finding in diagnosis.features])


def _show_paths(diagnosis: Diagnosis) -> None:
    if diagnosis.daemon is None:
        click.secho("The paths that a daemon started by you would give", bold=True)
        _show([(verdict.path, verdict) for verdict in diagnosis.paths])
        click.echo(f"\nNo daemon was asked: {diagnosis.no_daemon}")
    else:
        about = f"The paths that daemon {diagnosis.daemon.instance} (pid {diagnosis.daemon.pid}) gives"
        click.secho(about, bold=True)
        _show([(verdict.path, verdict) for verdict in diagnosis.daemon_paths])


def _show(judged: Iterable[tuple[str, Judged]]) -> None:
    named = list(judged)
    width = max(len(name) for name, _ in named)
    for name, each in named:
        answer = click.style("yes", fg="green") if each.available else click.style("no ", fg="yellow")
        click.echo(f"  {name:{width}}  {answer}  {each.reason}")
        if each.remedy and not each.available:
            click.echo(f"  {'':{width}}       mend: {each.remedy}")
