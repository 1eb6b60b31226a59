"""Promises and possession: nothing has two owners at any instant, floors stay, deadlines end every notice."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nomx.errors import InvalidRequest
from nomx.market.diff import Changes, Delivery, Grant, Reprieve, Revocation
from nomx.market.money import Quanta, cost, fits, minus, plus

CAPACITY = (8, 6)
OLD = (3, 5)


def aim(delivery: Delivery, deadline_ns: int = 100, **awards: Quanta) -> Changes:
    return delivery.aim(awards, dict.fromkeys(awards, OLD), deadline_ns)


def with_tenants(**floors: Quanta) -> Delivery:
    delivery = Delivery(CAPACITY)
    for name, floor in floors.items():
        delivery.admit(name, floor)
    delivery.deliver()
    return delivery


def test_what_grows_waits_for_what_shrinks() -> None:
    delivery = with_tenants(a=(1, 0), b=(1, 0))
    aim(delivery, a=(6, 0), b=(0, 0))
    assert delivery.deliver() == (Grant("a", (6, 0)),)
    changes = aim(delivery, a=(1, 0), b=(5, 0))
    assert changes.revocations == (Revocation("a", (5, 0), 100),)
    assert delivery.deliver() == ()
    delivery.give_back("a", (4, 0))
    assert delivery.deliver() == ()
    delivery.give_back("a", (1, 0))
    assert delivery.deliver() == (Grant("b", (5, 0)),)


def test_a_notice_costs_the_old_price_until_it_ends() -> None:
    delivery = with_tenants(a=(0, 0))
    aim(delivery, a=(4, 2))
    delivery.deliver()
    aim(delivery, a=(1, 2))
    assert delivery.grace_rate("a") == cost(OLD, (3, 0))
    assert delivery.grace_rate("a", after_ns=100) == 0
    delivery.give_back("a", (1, 0))
    assert delivery.grace_rate("a") == cost(OLD, (2, 0))
    assert [r.quanta for r in delivery.expire(100)] == [(2, 0)]
    assert delivery.grace_rate("a") == 0


def test_who_wins_again_keeps_what_was_under_notice() -> None:
    delivery = with_tenants(a=(0, 0))
    aim(delivery, a=(4, 0))
    delivery.deliver()
    aim(delivery, a=(1, 0))
    changes = aim(delivery, a=(3, 0))
    assert changes.reprieves == (Reprieve("a", (2, 0)),)
    assert delivery.held("a") == (3, 0)
    assert delivery.possessed("a") == (4, 0)


def test_a_floor_comes_before_what_was_promised_above_floors() -> None:
    delivery = with_tenants(a=(0, 0), b=(0, 0))
    aim(delivery, a=(8, 0), b=(0, 0))
    delivery.deliver()
    delivery.admit("late", (2, 0))
    aim(delivery, a=(0, 0), b=(6, 0), late=(0, 0))
    delivery.give_back("a", (3, 0))
    assert delivery.deliver() == (Grant("late", (2, 0)),)


def test_only_what_is_under_notice_can_be_given_back() -> None:
    delivery = with_tenants(a=(2, 0))
    with pytest.raises(InvalidRequest, match="under notice"):
        delivery.give_back("a", (1, 0))
    with pytest.raises(InvalidRequest):
        delivery.give_back("a", (-1, 0))


def test_a_host_that_shrinks_grants_nothing_until_it_has_it() -> None:
    delivery = with_tenants(a=(0, 0), b=(0, 0))
    aim(delivery, a=(8, 0))
    delivery.deliver()
    delivery.capacity = (4, 6)
    assert delivery.free == (-4, 6)
    aim(delivery, a=(2, 0), b=(2, 0))
    assert delivery.deliver() == ()
    delivery.expire(100)
    assert delivery.deliver() == (Grant("b", (2, 0)),)


class Owners(RuleBasedStateMachine):
    """A daemon that hands out single units by what a Delivery says, and tenants of every manner."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery = Delivery(CAPACITY)
        self.now_ns = 0
        self.floors: dict[str, Quanta] = {}
        self.pool = [set(range(count)) for count in CAPACITY]
        """Units that nobody has."""
        self.owned: dict[str, list[set[int]]] = {}
        self.seated: set[str] = set()
        """Who has its floor."""

    def take(self, name: str, quanta: Quanta) -> None:
        for resource, count in enumerate(quanta):
            for _ in range(count):  # pop() of an empty pool would be a unit with two owners
                self.owned[name][resource].add(self.pool[resource].pop())

    def free(self, name: str, quanta: Quanta) -> None:
        for resource, count in enumerate(quanta):
            for _ in range(count):
                self.pool[resource].add(self.owned[name][resource].pop())

    def deliver(self) -> None:
        for grant in self.delivery.deliver():
            self.take(grant.tenant, grant.quanta)

    @rule(floor=st.tuples(st.integers(0, 3), st.integers(0, 3)))
    def admit(self, floor: Quanta) -> None:
        committed = (0, 0)
        for each in self.floors.values():
            committed = plus(committed, each)
        if fits(plus(committed, floor), CAPACITY):
            name = f"t{len(self.owned)}"
            self.floors[name], self.owned[name] = floor, [set(), set()]
            self.delivery.admit(name, floor)
            self.deliver()

    @precondition(lambda self: self.floors)
    @rule(data=st.data(), grace_ns=st.integers(1, 30))
    def decide(self, data: st.DataObject, grace_ns: int) -> None:
        left = CAPACITY
        for floor in self.floors.values():
            left = minus(left, floor)
        awards: dict[str, Quanta] = {}
        for name in self.floors:
            awards[name] = data.draw(st.tuples(st.integers(0, left[0]), st.integers(0, left[1])))
            left = minus(left, awards[name])
        self.delivery.aim(awards, dict.fromkeys(awards, OLD), self.now_ns + grace_ns)
        self.deliver()
        for name, award in awards.items():
            assert self.delivery.promised(name) == plus(self.floors[name], award)

    @precondition(lambda self: any(self.delivery.notices(name) for name in self.floors))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in self.floors if self.delivery.notices(name)]))
        notice = minus(self.delivery.possessed(name), self.delivery.held(name))
        quanta = data.draw(st.tuples(*(st.integers(0, count) for count in notice)))
        self.delivery.give_back(name, quanta)
        self.free(name, quanta)
        self.deliver()

    @rule(elapsed_ns=st.integers(0, 40))
    def wait(self, elapsed_ns: int) -> None:
        self.now_ns += elapsed_ns
        for repossession in self.delivery.expire(self.now_ns):
            self.free(repossession.tenant, repossession.quanta)
        self.deliver()
        for name in self.floors:
            assert all(notice.deadline_ns > self.now_ns for notice in self.delivery.notices(name))

    @precondition(lambda self: self.floors)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.floors)))
        possessed = self.delivery.leave(name)
        assert possessed == tuple(map(len, self.owned[name]))
        self.free(name, possessed)
        del self.floors[name]
        self.deliver()

    @invariant()
    def books_and_units_agree(self) -> None:
        assert self.delivery.free == tuple(map(len, self.pool))
        for name in self.floors:
            assert self.delivery.possessed(name) == tuple(map(len, self.owned[name]))
            assert fits(self.delivery.held(name), self.delivery.promised(name))

    @invariant()
    def who_waits_waits_for_somebody_or_for_the_next_decision(self) -> None:
        noticed = any(self.delivery.notices(name) for name in self.floors)
        promised: Quanta = (0, 0)
        for name in self.floors:
            promised = plus(promised, self.delivery.promised(name))
        if not noticed and fits(promised, CAPACITY):
            assert all(self.delivery.held(name) == self.delivery.promised(name) for name in self.floors)

    @invariant()
    def floors_once_held_stay(self) -> None:
        held = {name for name, floor in self.floors.items() if fits(floor, self.delivery.held(name))}
        assert self.seated & set(self.floors) <= held
        self.seated = held


TestOwners = Owners.TestCase
