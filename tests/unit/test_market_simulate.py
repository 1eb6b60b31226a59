"""The simulation: seeded, the same for every policy, and in agreement with what is known about them."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from msgspec.structs import replace as with_changes

from nomx.errors import InvalidRequest
from nomx.market.bids import MAX_POINTS
from nomx.market.population import crowd, draw_profile, events, growth
from nomx.market.scenario import KINDS, SHAPES, Host, Kind, Scenario, changed, read_scenario
from nomx.market.simulate import percentile, simulate

SMALL = Scenario(
    hours=0.06,
    tenants=30,
    stay_hours=0.03,
    load_s=60.0,
    host=Host(cores=16, memory_gib=32, units=16, bandwidth_gbps=20),
)


def test_equal_scenarios_give_equal_results() -> None:
    scenario = with_changes(SMALL, policies=("market", "karma"), regret_samples=1)
    assert simulate(scenario) == simulate(scenario)


def test_another_seed_gives_other_tenants() -> None:
    other = with_changes(SMALL, seed=2, policies=("market",))
    assert simulate(with_changes(SMALL, policies=("market",))).bound != simulate(other).bound


def test_the_market_is_worth_more_than_the_others() -> None:
    comparison = simulate(SMALL)
    parts = {result.policy: result.welfare_part for result in comparison.results}
    assert all(0 <= part <= 1 for part in parts.values())
    assert parts["market"] > 0.85
    assert parts["market"] == max(parts.values())
    assert parts["static"] == min(parts.values())


def test_only_a_market_is_paid_and_at_most_what_things_are_worth() -> None:
    for result in simulate(with_changes(SMALL, policies=("market", "priorities", "drf"))).results:
        assert (result.paid > 0) == (result.policy == "market")
        assert result.paid <= result.welfare


def test_a_series_has_a_number_for_each_period() -> None:
    (result,) = simulate(with_changes(SMALL, policies=("market",))).results
    series = result.series
    assert {
        len(column)
        for column in (series.hours, series.welfare, series.paid, series.changes, series.prices, series.used)
    } == {SMALL.periods}
    assert all(0 <= part <= 1 for used in series.used for part in used)


def test_revocations_that_nobody_answers_end_at_their_deadline() -> None:
    ignored = with_changes(SMALL, policies=("market",), ignore=1.0)
    answered = with_changes(SMALL, policies=("market",), ignore=0.0)
    assert simulate(ignored).results[0].repossessions > 0
    assert simulate(answered).results[0].repossessions == 0


def test_floors_that_do_not_fit_are_refused() -> None:
    (result,) = simulate(with_changes(SMALL, policies=("market",), floor={"memory": 6})).results
    assert result.refused > 0


def test_progress_is_told() -> None:
    told: Counter[str] = Counter()
    simulate(with_changes(SMALL, policies=("drf",)), lambda what, done, of: told.update([what] if done <= of else []))
    assert told["drf"] == SMALL.periods
    assert told["bound"] > 0


def test_happenings_are_in_order_and_keep_the_number_of_tenants() -> None:
    present: set[str] = set()
    last_ns = 0
    for event in events(SMALL):
        assert event.at_ns >= last_ns
        last_ns = event.at_ns
        if event.what == "join":
            present.add(event.tenant)
        elif event.what == "leave":
            present.remove(event.tenant)
        else:
            assert event.tenant in present
    assert len(present) == SMALL.tenants


@pytest.mark.parametrize("shape", SHAPES)
def test_value_never_falls_with_more(shape: str) -> None:
    kind = Kind("any", {"cores": 1}, shape, threshold=3)
    values = [growth(kind, steps) for steps in range(1, MAX_POINTS + 1)]
    assert values == sorted(values)
    assert values[2] >= 1


def test_a_menu_is_within_the_host() -> None:
    host = Host(cores=3, memory_gib=1, units=1, bandwidth_gbps=1)
    case = crowd(with_changes(SMALL, tenants=50, host=host))
    for tenant in case.tenants:
        assert all(q <= s for point in tenant.menu.points for q, s in zip(point.quanta, case.supply, strict=True))


def test_kinds_come_as_often_as_their_share_says() -> None:
    random, common = Random(1), with_changes(KINDS[0], share=9.0)
    scenario = with_changes(SMALL, kinds=(common, KINDS[1]))
    drawn = Counter(draw_profile(scenario, random).kind.name for _ in range(1000))
    assert 850 < drawn[common.name] < 950


TOML = """
title = "two kinds"
tenants = 5
hours = 0.5
policies = ["drf"]
[host]
cores = 4
[[kinds]]
name = "web"
step = { cores = 1 }
"""


def test_a_scenario_is_read_from_toml() -> None:
    scenario = read_scenario(TOML)
    assert (scenario.tenants, scenario.host.cores, scenario.host.units) == (5, 4, 64)
    assert [kind.name for kind in scenario.kinds] == ["web"]
    assert scenario.periods == 180


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("tenants = [", "TOML"),
        ("tennants = 5", "tennants"),
        ("tenants = 0", "tenants"),
        ("tenants = 1e9", "tenants"),
        ("hours = -1.0", "hours"),
        ("hours = nan", "hours"),
        ("period_s = 0.0", "period_s"),
        ('policies = ["monopoly"]', "monopoly"),
        ("policies = []", "policies"),
        ("[floor]\ngpus = 1", "floor.gpus"),
        ("[host]\ncores = -1", "cores"),
        ('[[kinds]]\nname = "a"\nstep = { gpus = 1 }', "a.step.gpus"),
        ('[[kinds]]\nname = "a"\nstep = {}', "a.step"),
        ('[[kinds]]\nname = "a"\nstep = { cores = 1 }\nshape = "round"', "a.shape"),
        ('[[kinds]]\nname = "a"\nstep = { cores = 1 }\npoints = 9', "points"),
        ('[[kinds]]\nname = "a"\nstep = { cores = 1 }\n' * 2, "kinds"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused_by_name(wrong: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_scenario(wrong)
    assert named in str(refused.value)


def test_a_setting_can_be_changed_within_its_bounds() -> None:
    assert changed(SMALL, {"seed": 5, "policies": ("drf",)}) == with_changes(SMALL, seed=5, policies=("drf",))
    for settings in ({"seed": -1}, {"policies": ("monopoly",)}, {"hours": math.inf}):
        with pytest.raises(InvalidRequest):
            changed(SMALL, settings)


def test_a_percentile_is_a_number_of_the_sample() -> None:
    assert [percentile([4, 1, 3, 2], p) for p in (0, 25, 26, 95, 100)] == [1, 1, 2, 4, 4]
