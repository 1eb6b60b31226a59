"""`nomx market simulate` as a user runs it: a table, JSON, a figure, and errors that name what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nomx_cli.main import cli

SCENARIO = Path(__file__).parents[2] / "experiments" / "0006-market" / "scenario.toml"
SHORT = ("--hours", "0.05")


def nomx(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="nomx")


def test_the_sample_scenario_runs_and_compares_its_policies() -> None:
    result = nomx("market", "simulate", SCENARIO, *SHORT)
    assert result.exit_code == 0, result.output
    for heading in ("POLICY", "WELFARE %", "CORES %", "market", "drf", "mean prices"):
        assert heading in result.output


def test_json_has_stable_keys_and_equal_seeds_equal_results() -> None:
    runs = [nomx("market", "simulate", SCENARIO, *SHORT, "--policy", "market", "--seed", "3", "-j") for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    comparison = json.loads(runs[0].stdout)
    assert set(comparison) == {"title", "bound", "bounds", "results"}
    (market,) = comparison["results"]
    assert market["policy"] == "market"
    assert set(market["prices"]) == {"cores", "memory", "units", "bandwidth"}
    assert (
        nomx("market", "simulate", SCENARIO, *SHORT, "--policy", "market", "--seed", "4", "-j").stdout != runs[0].stdout
    )


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures are an extra")
    figure = tmp_path / "market.svg"
    result = nomx("market", "simulate", SCENARIO, *SHORT, "--policy", "market", "--policy", "drf", "--figure", figure)
    assert result.exit_code == 0, result.output
    assert "svg" in figure.read_text()[:500]


def test_without_matplotlib_the_remedy_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("nomx_cli.market_figure.find_spec", lambda name: None)
    result = nomx("market", "simulate", SCENARIO, *SHORT, "--figure", tmp_path / "market.png")
    assert result.exit_code == 4
    assert 'pip install "nomx[figures]"' in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--policy", "monopoly"), "monopoly"),
        (("--hours", "nan"), "hours"),
        (("--hours", "-1"), "hours"),
        (("--seed", "-1"), "seed"),
        (("--figure", "/nowhere/market.png"), "--figure"),
        (("--policy", "exact"), "exact"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], named: str) -> None:
    options = arguments if "--hours" in arguments else (*SHORT, *arguments)
    options = options if "--policy" in arguments else (*options, "--policy", "static")
    result = nomx("market", "simulate", SCENARIO, *options)
    assert result.exit_code in (2, 4)
    assert named in result.output


@pytest.mark.parametrize("text", ["tenants = [", "tennants = 3", "\x00"])
def test_a_broken_scenario_is_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    result = nomx("market", "simulate", path)
    assert result.exit_code == 2
    assert "scenario" in result.output
