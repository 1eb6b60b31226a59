"""What every allocator promises, and what makes each one itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.errors import InvalidRequest, NotSupported
from nomx.market.bids import Menu, Point
from nomx.market.exact import Exact
from nomx.market.fairness import DominantResource, Karma
from nomx.market.money import Quanta
from nomx.market.policies import POLICIES, policy_named
from nomx.market.policy import Carry, Case, Outcome, Tenant
from nomx.market.regret import following
from nomx.market.shares import FirstCome, StaticShares, WeightedShares, max_min
from nomx.testing.markets import RESERVE, TWO_GOODS, cases, fewer_examples

EVERY_POLICY = pytest.mark.parametrize("name", list(POLICIES))


def used(outcome: Outcome) -> Quanta:
    return tuple(sum(column) for column in zip((0, 0), *(a.quanta for a in outcome.awards.values()), strict=True))


@EVERY_POLICY
@given(case=cases())
def test_awards_fit_the_supply_and_nobody_pays_more_than_value_or_budget(name: str, case: Case) -> None:
    policy = policy_named(name)
    outcome = policy.clear(case)
    assert outcome == policy.clear(case)
    assert set(outcome.awards) == {tenant.name for tenant in case.tenants}
    assert all(use <= supply for use, supply in zip(used(outcome), case.supply, strict=True))
    for tenant in case.tenants:
        award = outcome.awards[tenant.name]
        offers = {point.quanta: point.value for point in tenant.menu.points} | {(0, 0): 0}
        assert offers[award.quanta] == award.value
        assert award.desired in offers
        assert 0 <= award.payment <= min(award.value, tenant.spend)
        assert award.payment == (tenant.cost(outcome.prices, award.quanta) if policy.charges else 0)


@EVERY_POLICY
@fewer_examples
@given(case=cases(tenants=4), order=st.randoms(use_true_random=False))
def test_names_and_the_order_of_a_list_change_nothing(name: str, case: Case, order: object) -> None:
    policy = policy_named(name)
    case = following(case, policy.clear(case))
    renamed = {tenant.name: f"{99 - tenant.seniority}-{tenant.name}" for tenant in case.tenants}
    shuffled = [replace(tenant, name=renamed[tenant.name]) for tenant in case.tenants]
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    credits_ = {renamed[name]: wealth for name, wealth in case.carry.credits.items()}
    other = Case.of(case.goods, case.supply, case.reserve, shuffled, replace(case.carry, credits=credits_))
    here, there = policy.clear(case), policy.clear(other)
    assert here.prices == there.prices
    assert {renamed[name]: award for name, award in here.awards.items()} == dict(there.awards)


@EVERY_POLICY
def test_nobody_is_nobody(name: str) -> None:
    assert policy_named(name).clear(Case.of(TWO_GOODS, (4, 4), RESERVE, ())).awards == {}


def test_seniority_is_unique() -> None:
    with pytest.raises(InvalidRequest, match="seniority"):
        Case.of(TWO_GOODS, (1, 1), RESERVE, [wants("a", 1), wants("b", 1)])


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"market.*karma"):
        policy_named("monopoly")


def wants(name: str, seniority: int, *points: tuple[Quanta, int], holding: Quanta = (0, 0), weight: int = 1) -> Tenant:
    return Tenant(name, seniority, Menu(tuple(Point(*point) for point in points)), holding, weight=weight)


def given_to(policy: object, supply: Quanta, *tenants: Tenant, carry: Carry | None = None) -> list[Quanta]:
    case = Case.of(TWO_GOODS, supply, RESERVE, tenants, carry)
    return [award.quanta for award in policy.clear(case).awards.values()]  # type: ignore[attr-defined]


@given(cases(tenants=3, points=3))
def test_the_exact_optimum_is_what_plain_enumeration_finds(case: Case) -> None:
    best = 0
    for choice in product(*([Point((0, 0), 0), *tenant.menu.points] for tenant in case.tenants)):
        total = [sum(point.quanta[r] for point in choice) for r in range(2)]
        if all(t <= s for t, s in zip(total, case.supply, strict=True)):
            best = max(best, sum(point.value for point in choice))
    assert Exact().clear(case).welfare == best


def test_the_exact_optimum_refuses_what_would_take_for_ever() -> None:
    many = [wants(f"t{n}", n, ((1, 0), 5), ((2, 0), 9)) for n in range(40)]
    with pytest.raises(NotSupported, match="40 tenants"):
        Exact().clear(Case.of(TWO_GOODS, (9, 9), RESERVE, many))


def test_static_shares_are_the_same_whoever_needs_them() -> None:
    big = [((4, 0), 100), ((2, 0), 40), ((1, 0), 10)]
    idle = wants("idle", 2)
    assert given_to(StaticShares(), (4, 0), wants("a", 1, *big), idle) == [(2, 0), (0, 0)]
    assert given_to(StaticShares(), (4, 0), replace(wants("a", 1, *big), weight=3), wants("b", 2, *big)) == [
        (2, 0),
        (1, 0),
    ]


def test_first_come_takes_nothing_from_a_holder() -> None:
    holder = wants("late", 9, ((3, 0), 1), holding=(3, 0))
    assert given_to(FirstCome(), (4, 0), wants("early", 1, ((4, 0), 100), ((1, 0), 5)), holder) == [(3, 0), (1, 0)]


def test_first_come_shrinks_with_the_supply() -> None:
    holders = [wants(f"t{n}", n, ((2, 0), 10), holding=(2, 0)) for n in range(3)]
    assert given_to(FirstCome(), (4, 0), *holders) == [(2, 0), (2, 0), (0, 0)]


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 9)), max_size=8),
)
def test_max_min_shares_everything_wanted_and_favours_nobody(supply: int, listed: list[tuple[int, int]]) -> None:
    wants_, weights = [want for want, _ in listed], [weight for _, weight in listed]
    shares = max_min(supply, wants_, weights)
    assert sum(shares) == min(supply, sum(wants_))
    assert all(share <= want for share, want in zip(shares, wants_, strict=True))
    for share, want, weight in zip(shares, wants_, weights, strict=True):
        if share < want:  # who wants more has, weight by weight, no less than anybody else, but for one quantum
            assert all(other <= (share + 1) * w / weight + 1 for other, w in zip(shares, weights, strict=True))


def test_weighted_shares_go_by_weight_and_leave_nothing_wanted() -> None:
    menu = [((count, 0), 10 * count) for count in range(1, 9)]
    assert given_to(WeightedShares(), (8, 0), wants("a", 1, *menu, weight=3), wants("b", 2, *menu)) == [(6, 0), (2, 0)]
    assert given_to(WeightedShares(), (8, 0), wants("a", 1, *menu), wants("b", 2, ((1, 0), 5))) == [(7, 0), (1, 0)]


def test_dominant_shares_are_evened_out_as_in_the_paper() -> None:
    """Ghodsi et al., section 4.1: 9 CPUs and 18 GB, tasks of <1, 4> and <3, 1>: three of the one, two of the other."""
    a = wants("a", 1, *(((n, 4 * n), n) for n in range(1, 9)))
    b = wants("b", 2, *(((3 * n, n), n) for n in range(1, 4)))
    assert given_to(DominantResource(), (9, 18), a, b) == [(3, 12), (6, 2)]


def test_karma_lends_what_is_not_needed_and_remembers_who_lent() -> None:
    """One resource of 6 slices, two tenants: whoever asked for little before comes first when both want much."""
    menu = [((count, 0), 10 * count) for count in range(1, 7)]
    modest = wants("modest", 1, ((1, 0), 10))
    greedy = wants("greedy", 2, *menu)
    policy = Karma(first_credits=4)
    first = policy.clear(Case.of(TWO_GOODS, (6, 0), RESERVE, (modest, greedy)))
    assert [award.quanta for award in first.awards.values()] == [(1, 0), (5, 0)]
    assert first.carry.credits["modest"][0] > first.carry.credits["greedy"][0]
    both = (replace(modest, menu=greedy.menu), greedy)
    assert given_to(policy, (6, 0), *both, carry=first.carry) == [(5, 0), (1, 0)]


@given(cases(tenants=4, budgets=False, locks=False), st.integers(0, 100))
def test_karma_neither_makes_nor_loses_credits_by_lending(case: Case, percent: int) -> None:
    """What borrowers pay for others' slices is what those receive; slices of the common pool cost credits, too."""
    outcome = Karma(alpha=percent / 100).clear(case)
    again = Karma(alpha=percent / 100).clear(following(case, outcome))
    for resource in range(2):
        before = sum(wealth[resource] for wealth in outcome.carry.credits.values())
        after = sum(wealth[resource] for wealth in again.carry.credits.values())
        assert after <= before + case.supply[resource] * 10**6
        assert all(wealth[resource] >= 0 for wealth in again.carry.credits.values())


def test_priorities_decide_where_money_does_not() -> None:
    poor = replace(wants("poor", 1, ((2, 0), 10), weight=9), spend=0)
    rich = wants("rich", 2, ((2, 0), 10**9), weight=1)
    policy = policy_named("priorities")
    assert given_to(policy, (3, 0), poor, rich) == [(2, 0), (0, 0)]
    assert given_to(policy, (3, 0), replace(poor, weight=1), replace(rich, weight=9)) == [(0, 0), (2, 0)]
