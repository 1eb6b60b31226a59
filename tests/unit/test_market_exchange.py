"""The exchange: who joins, bids, is told, pays and leaves; and that whatever they do, the books balance."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nomx.errors import InvalidRequest, NomxError, NotGranted, NotSupported, WouldBlock
from nomx.market.clearing import Market
from nomx.market.exact import Exact
from nomx.market.exchange import Exchange, Rules, Turn
from nomx.market.ledger import HOST, ISSUER, Ledger, Transaction, tenant_account
from nomx.market.money import MAX_RATE, MICRO, SECOND_NS, Goods, Quanta, Resource, cost, fits, plus
from nomx.market.policies import POLICIES, policy_named
from nomx.market.shares import FirstCome
from nomx.market.sources import Told

GOODS = Goods((Resource("cores", "core"), Resource("memory", "GiB", 4)))
CAPACITY = (8, 12)
RULES = Rules(goods=GOODS, reserve=(10, 1), grace_ns=2 * SECOND_NS, term_ns=5 * SECOND_NS, horizon_ns=10 * SECOND_NS)


def market(**changes: Any) -> Exchange:
    return Exchange(CAPACITY, Market(), Rules(**{"goods": GOODS, "reserve": (10, 1), **changes}))


def rich(exchange: Exchange, name: str, **given: Any) -> Turn:
    return exchange.join(name, 0, income=10**9, savings=10**9, **given)


def test_a_tenant_joins_bids_holds_pays_and_leaves() -> None:
    exchange = market()
    rich(exchange, "a", floor={"cores": 1})
    assert exchange.delivery.held("a") == (1, 0)
    exchange.bid("a", 0, [({"cores": 2, "memory": 4}, 1_000)])
    turn = exchange.tick(0)
    assert [(grant.tenant, grant.quanta) for grant in turn.changes.grants] == [("a", (2, 4))]
    turn = exchange.tick(SECOND_NS)
    assert [line.paid for line in turn.lines] == [1 * 10 + 2 * 10 + 4 * 1]
    assert exchange.ledger.balance(HOST) == 34
    exchange.leave("a", SECOND_NS)
    assert exchange.tenants == ()
    assert exchange.ledger.balances == {ISSUER: -34, HOST: 34}


def test_who_is_outbid_is_told_pays_the_old_price_in_grace_and_is_repossessed() -> None:
    exchange = market(grace_ns=SECOND_NS)
    rich(exchange, "a")
    exchange.bid("a", 0, [({"cores": 8}, 8_000)])
    exchange.tick(0)
    rich(exchange, "b")
    exchange.bid("b", 0, [({"cores": 8}, 80_000)])
    turn = exchange.tick(SECOND_NS)
    assert [(r.tenant, r.quanta, r.deadline_ns) for r in turn.changes.revocations] == [("a", (8, 0), 2 * SECOND_NS)]
    assert turn.changes.grants == ()
    turn = exchange.repossess(2 * SECOND_NS)
    assert [r.quanta for r in turn.changes.repossessions] == [(8, 0)]
    assert [line.paid for line in turn.lines if line.tenant == "a"] == [8 * 10]
    assert [(grant.tenant, grant.quanta) for grant in turn.changes.grants] == [("b", (8, 0))]


def test_an_acknowledgement_frees_at_once() -> None:
    exchange = market()
    for name, value, at in (("a", 8_000, 0), ("b", 80_000, SECOND_NS)):
        rich(exchange, name)
        exchange.bid(name, at, [({"cores": 8}, value)])
        exchange.tick(at)
    turn = exchange.give_back("a", (8, 0), SECOND_NS + 5)
    assert [grant.tenant for grant in turn.changes.grants] == ["b"]
    with pytest.raises(InvalidRequest, match="under notice"):
        exchange.give_back("a", (1, 0), SECOND_NS + 6)


def test_floors_beyond_capacity_are_refused() -> None:
    exchange = market()
    rich(exchange, "a", floor={"cores": 5})
    with pytest.raises(NotGranted, match="floor"):
        rich(exchange, "b", floor={"cores": 4})
    with pytest.raises(InvalidRequest, match=r"floor\.cores"):
        rich(exchange, "c", floor={"cores": 9})
    assert exchange.tenants == ("a",)


def test_a_floor_has_to_be_earned() -> None:
    exchange = market()
    with pytest.raises(InvalidRequest, match="income"):
        exchange.join("a", 0, floor={"cores": 5}, income=49)
    exchange.join("a", 0, floor={"cores": 5}, income=50)


def test_a_floor_costs_what_it_cost_at_admission() -> None:
    exchange = market()
    exchange.join("old", 0, floor={"cores": 1}, income=10)
    for n in range(20):
        rich(exchange, f"t{n}")
        exchange.bid(f"t{n}", 0, [({"cores": 1}, 5_000)])
    for second in range(10):
        turn = exchange.tick(second * SECOND_NS)
    assert exchange.prices[0] > 1_000
    assert next(line.paid for line in turn.lines if line.tenant == "old") == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"income": -1},
        {"income": float("inf")},
        {"income": MAX_RATE + 1},
        {"savings": -1},
        {"savings": 2**63},
        {"weight": 0},
        {"weight": 1.5},
        {"floor": {"gpus": 1}},
        {"floor": {"cores": -1}},
    ],
)
def test_a_tenant_that_makes_no_sense_is_not_admitted(wrong: dict[str, Any]) -> None:
    exchange = market()
    with pytest.raises(InvalidRequest):
        exchange.join("a", 0, **wrong)
    assert exchange.tenants == ()
    assert exchange.supply == CAPACITY


def test_a_name_is_one_tenants() -> None:
    exchange = market()
    rich(exchange, "a")
    with pytest.raises(NotGranted, match="name"):
        rich(exchange, "a")
    for unknown in (lambda: exchange.leave("b", 0), lambda: exchange.bid("b", 0, []), lambda: exchange.work("b", 1)):
        with pytest.raises(InvalidRequest, match="tenant"):
            unknown()


def test_a_thousand_bids_a_second_are_one_and_a_burst() -> None:
    exchange = market(bids_per_second=1, bid_burst=10)
    rich(exchange, "a")
    accepted = 0
    for number in range(3_000):
        with suppress(WouldBlock):
            exchange.bid("a", number * SECOND_NS // 1_000, [({"cores": 1}, 100 + number)])
            accepted += 1
    assert accepted == 12
    with pytest.raises(WouldBlock, match=r"a new bid by a \(the next is possible in 1 ms\)"):
        exchange.bid("a", 3 * SECOND_NS - 1, [])


def test_savings_run_out_and_are_never_overdrawn() -> None:
    exchange = market(horizon_ns=10 * SECOND_NS)
    exchange.join("a", 0, income=20, savings=1_000)
    exchange.bid("a", 0, [({"cores": 8}, 10**6), ({"cores": 2}, 10**5)])
    seen = []
    for second in range(100):
        exchange.tick(second * SECOND_NS)
        seen.append(exchange.delivery.held("a")[0])
        assert exchange.purse("a") >= 0
    assert seen[0] == 8
    assert seen[-1] == 2


def test_a_lock_that_ends_is_not_paid_for_with_more_than_the_value() -> None:
    """At the end of its term the holder of 2 cores worth 1,000 meets a price above that: it goes, unpaid."""
    exchange = market(term_ns=3 * SECOND_NS)
    rich(exchange, "holder")
    exchange.bid("holder", 0, [({"cores": 2}, 1_000)])
    exchange.tick(0)
    for n in range(20):
        rich(exchange, f"t{n}")
        exchange.bid(f"t{n}", 0, [({"cores": 1}, 90_000)])
    for second in range(1, 40):
        turn = exchange.tick(second * SECOND_NS)
        assert exchange.rate("holder") <= 1_000 + exchange.delivery.grace_rate("holder")
        assert turn.outcome is not None
        assert all(exchange.award(name).payment <= exchange.award(name).value for name in exchange.tenants)
    assert exchange.prices[0] > 10_000


def test_a_clock_that_leaps_or_falls_back_robs_nobody() -> None:
    exchange = market(longest_charge_ns=SECOND_NS)
    rich(exchange, "a")
    exchange.bid("a", 0, [({"cores": 2}, 1_000)])
    exchange.tick(0)
    turn = exchange.tick(3_600 * SECOND_NS)
    assert [line.paid for line in turn.lines] == [20]
    turn = exchange.tick(10 * SECOND_NS)
    assert [line.paid for line in turn.lines] == [0]
    assert [line.paid for line in exchange.tick(11 * SECOND_NS).lines] == [20]


def test_a_host_cannot_shrink_below_its_floors() -> None:
    exchange = market()
    rich(exchange, "a", floor={"cores": 3})
    with pytest.raises(NotGranted, match="capacity"):
        exchange.resize((2, 12), 0)
    exchange.resize((3, 12), 0)
    assert exchange.supply == (0, 12)


def test_work_is_counted_on_the_line_of_its_time() -> None:
    exchange = market()
    rich(exchange, "a")
    exchange.tick(0)
    exchange.work("a", 5)
    exchange.work("a", 7)
    assert [line.work for line in exchange.tick(SECOND_NS).lines] == [12]
    assert [line.work for line in exchange.tick(2 * SECOND_NS).lines] == [0]


def test_a_policy_that_cannot_decide_changes_nothing() -> None:
    exchange = Exchange(CAPACITY, Exact(), RULES)
    for n in range(40):
        rich(exchange, f"t{n}")
        exchange.bid(f"t{n}", 0, [({"cores": 1}, 10), ({"cores": 2}, 20)])
    before = exchange.ledger.balances
    with pytest.raises(NotSupported):
        exchange.tick(SECOND_NS)
    assert exchange.ledger.balances == before


def test_under_a_policy_without_prices_nobody_pays() -> None:
    exchange = Exchange(CAPACITY, FirstCome(), RULES)
    exchange.join("a", 0, floor={"cores": 2})
    exchange.bid("a", 0, [({"cores": 3}, 100)])
    exchange.tick(0)
    exchange.tick(10 * SECOND_NS)
    assert exchange.delivery.held("a") == (5, 0)
    assert exchange.ledger.balances == {}


def test_prices_reach_a_source_that_knows_when_they_are_old() -> None:
    exchange, source = market(), Told((1, 1), stale_after_ns=3 * SECOND_NS)
    exchange.tick(SECOND_NS)
    source.tell(exchange.prices, SECOND_NS)
    assert source.at(4 * SECOND_NS).prices == exchange.prices
    assert not source.at(4 * SECOND_NS).stale
    assert source.at(5 * SECOND_NS).stale


class Trading(RuleBasedStateMachine):
    """Tenants of every manner on one exchange, of every policy; and a store that keeps what it is given."""

    @initialize(policy=st.sampled_from([name for name in POLICIES if name != "exact"]))
    def open(self, policy: str) -> None:
        self.exchange = Exchange(CAPACITY, policy_named(policy), RULES)
        self.now_ns = 0
        self.joined = 0
        self.stored: list[Transaction] = []
        self.paid: dict[str, int] = {}
        self.floors: dict[str, Quanta] = {}
        self.floor_rates: dict[str, int] = {}
        self.told: dict[str, list[Quanta]] = {}

    def note(self, turn: Turn) -> None:
        self.stored += turn.transactions
        for line in turn.lines:
            self.paid[line.tenant] = self.paid.get(line.tenant, 0) + line.paid
        for revocation in turn.changes.revocations:
            assert revocation.deadline_ns == self.now_ns + RULES.grace_ns
            self.told[revocation.tenant].append(revocation.quanta)

    def somebody(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.exchange.tenants))

    @rule(
        floor=st.fixed_dictionaries({"cores": st.integers(0, 4), "memory": st.integers(0, 4)}),
        income=st.one_of(st.integers(0, 200), st.just(10**9)),
        savings=st.integers(0, 10_000),
        weight=st.integers(1, 9),
    )
    def join(self, floor: dict[str, int], income: int, savings: int, weight: int) -> None:
        self.joined += 1
        name = f"t{self.joined}"
        try:
            turn = self.exchange.join(name, self.now_ns, floor=floor, income=income, savings=savings, weight=weight)
        except NomxError:
            assert name not in self.exchange.tenants
            return
        self.floors[name], self.told[name] = GOODS.quanta(floor, "floor"), []
        self.floor_rates[name] = cost(self.exchange.charged, self.floors[name])
        self.note(turn)

    @precondition(lambda self: self.exchange.tenants)
    @rule(
        data=st.data(),
        points=st.lists(
            st.tuples(
                st.fixed_dictionaries({"cores": st.integers(0, 9), "memory": st.integers(-1, 12)}),
                st.integers(0, 3_000),
            ),
            max_size=4,
        ),
        stay=st.integers(0, 50),
    )
    def bid(self, data: st.DataObject, points: list[tuple[dict[str, int], int]], stay: int) -> None:
        with suppress(InvalidRequest, WouldBlock):
            self.exchange.bid(self.somebody(data), self.now_ns, points, stay)

    @precondition(lambda self: any(self.told.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, told in self.told.items() if told]))
        quanta = self.told[name].pop()
        with suppress(InvalidRequest):  # it has been repossessed, or was reprieved
            self.note(self.exchange.give_back(name, quanta, self.now_ns))

    @precondition(lambda self: self.exchange.tenants)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = self.somebody(data)
        self.note(self.exchange.leave(name, self.now_ns))
        del self.floors[name], self.told[name]

    @rule(elapsed_ns=st.integers(0, 2 * SECOND_NS))
    def wait(self, elapsed_ns: int) -> None:
        self.now_ns += elapsed_ns
        self.note(self.exchange.repossess(self.now_ns))

    @rule(cores=st.integers(4, 10))
    def resize(self, cores: int) -> None:
        with suppress(NotGranted):
            self.note(self.exchange.resize((cores, 12), self.now_ns))

    @rule(late_ns=st.integers(-SECOND_NS, 3 * SECOND_NS))
    def tick(self, late_ns: int) -> None:
        self.now_ns = max(0, self.now_ns + SECOND_NS + late_ns)
        turn = self.exchange.tick(self.now_ns)
        self.note(turn)
        assert turn.outcome is not None
        total: Quanta = (0, 0)
        for name, award in turn.outcome.awards.items():
            total = plus(total, award.quanta)
            assert award.payment <= award.value
            assert self.exchange.award(name) == award
        assert fits(total, self.exchange.supply)

    @invariant()
    def credits_are_conserved_and_stored(self) -> None:
        ledger = self.exchange.ledger
        assert ledger.total == 0
        assert ledger.balance(HOST) == sum(self.paid.values())
        assert Ledger.replay(self.stored).balances == ledger.balances
        for name in self.exchange.tenants:
            assert ledger.balance(tenant_account(name)) == self.exchange.purse(name) >= 0

    @invariant()
    def nobody_pays_more_than_it_was_told(self) -> None:
        for name in self.exchange.tenants:
            grace = self.exchange.delivery.grace_rate(name)
            assert self.exchange.rate(name) <= self.floor_rates[name] + self.exchange.award(name).payment + grace

    @invariant()
    def possession_is_within_capacity_and_floors_are_safe(self) -> None:
        delivery = self.exchange.delivery
        total: Quanta = (0, 0)
        for name in self.exchange.tenants:
            total = plus(total, delivery.possessed(name))
            assert fits(delivery.held(name), delivery.promised(name))
            assert fits(self.floors[name], delivery.promised(name))
            assert not delivery.overdue(name, self.now_ns - 1) or self.now_ns == 0
        assert delivery.free == tuple(c - t for c, t in zip(delivery.capacity, total, strict=True))


TestTrading = Trading.TestCase


def test_two_exchanges_told_the_same_do_the_same_to_the_micro_credit() -> None:
    def run() -> tuple[dict[str, int], tuple[int, ...]]:
        exchange = market()
        for n in range(30):
            exchange.join(f"t{n}", 0, income=MICRO, savings=MICRO * n)
            exchange.bid(f"t{n}", 0, [({"cores": k}, 1_000 * k * (n % 7 + 1)) for k in range(1, 5)])
        for second in range(50):
            turn = exchange.tick(second * SECOND_NS)
            for revocation in turn.changes.revocations[::2]:
                exchange.give_back(revocation.tenant, revocation.quanta, second * SECOND_NS + 17)
        return dict(exchange.ledger.balances), exchange.prices

    assert run() == run()
