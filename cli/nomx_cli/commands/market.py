"""`nomx market`: markets to try before one is trusted with a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomx.errors import InvalidRequest
from nomx_cli.output import settings, show_json, show_table

if TYPE_CHECKING:
    from nomx.market.scenario import Scenario
    from nomx.market.simulate import Comparison, Result


@click.group
def command() -> None:
    """Try how resources would be shared, by prices or otherwise."""


@command.command
@click.argument("scenario", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--policy", "policies", multiple=True, help="Run this policy only; may be repeated.")
@click.option("--seed", type=click.IntRange(0, 1_000_000), help="Draw other tenants than the scenario's seed does.")
@click.option("--hours", type=float, help="Run for so long instead.")
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw the run into this file.")
def simulate(
    scenario: Path, policies: tuple[str, ...], seed: int | None, hours: float | None, figure: Path | None
) -> None:
    """Run hours of a market with synthetic tenants in seconds, under each policy of SCENARIO.

    SCENARIO is a TOML file: a host, kinds of applications, how long they stay and how their load
    changes. Every policy sees the same tenants, and equal files give equal results. Welfare is
    what the applications held was worth to them, told as a part of an upper bound on what any
    policy could reach.
    """
    from nomx.market.simulate import simulate as run

    if figure is not None:
        from nomx_cli.market_figure import require_matplotlib

        require_matplotlib()
    comparison = run(_scenario(scenario, policies, seed, hours), _Progress().show)
    if figure is not None:
        from nomx_cli.market_figure import draw

        draw(comparison, figure)
    if settings().as_json:
        show_json(comparison)
    else:
        _show(comparison)


def _scenario(path: Path, policies: tuple[str, ...], seed: int | None, hours: float | None) -> Scenario:
    """Read the scenario, with what the options change in it."""
    from nomx.market.scenario import changed, read_scenario

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            field="SCENARIO", value=f"{path} ({error})", expected="a TOML file that you may read"
        ) from error
    options = {"policies": policies or None, "seed": seed, "hours": hours}
    return changed(read_scenario(text), {name: value for name, value in options.items() if value is not None})


class _Progress:
    """One line on standard error that says what is running; nothing where nobody watches."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.shown = ""

    def show(self, what: str, done: int, of: int) -> None:
        """Say how far *what* is; the line goes when all of it is done."""
        if not self.watched:
            return
        line = "" if done == of else f"{what}: {done * 100 // of} %"
        if line != self.shown:
            click.echo(f"\r{line:{len(self.shown)}}\r{line}", nl=False, err=True)
            self.shown = line


def _show(comparison: Comparison) -> None:
    resources = list(comparison.results[0].used)
    click.secho(comparison.title, bold=True)
    show_table(
        (
            "POLICY",
            "WELFARE %",
            "PAID/s",
            "CHANGES/h",
            "REPOSSESSED",
            "REFUSED",
            *(f"{r.upper()} %" for r in resources),
        ),
        [_row(result) for result in comparison.results],
    )
    click.echo(
        f"\nWELFARE: of at most {comparison.bound:.4g} credits a second.  PAID: credits.  CHANGES: a tenant.  "
        "Last columns: how much was in use."
    )
    _show_prices(comparison)


def _row(result: Result) -> tuple[object, ...]:
    return (
        result.policy,
        100 * result.welfare_part,
        result.paid,
        result.changes_per_tenant_hour,
        result.repossessions,
        result.refused,
        *(100 * part for part in result.used.values()),
    )


def _show_prices(comparison: Comparison) -> None:
    for result in comparison.results:
        if result.paid:
            prices = ", ".join(f"{name} {price:.4g}" for name, price in result.prices.items())
            click.echo(f"{result.policy}: mean prices in credits a unit and second: {prices}")
        if result.regret_p95 is not None:
            gain = f"{100 * result.regret_p95:.2g} % of value at most"
            click.echo(f"{result.policy}: what lying gained 95 of 100 sampled tenants: {gain}")
