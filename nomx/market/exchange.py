"""One host's market in motion: tenants join, bid, are told, pay and leave; between the daemon and the policy.

The daemon calls these methods with its clock, carries out the Changes they return, and stores the Turn's
transactions and lines; the simulation does the same without a kernel. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nomx.errors import InvalidRequest, NotGranted, WouldBlock
from nomx.market.bids import NO_MENU, Menu, tenant_name
from nomx.market.budget import Bucket, PriceLock
from nomx.market.diff import Changes, Delivery
from nomx.market.ledger import HOST, ISSUER, Ledger, Line, Transaction, tenant_account
from nomx.market.money import (
    HOST_GOODS,
    MAX_BALANCE,
    MAX_RATE,
    SECOND_NS,
    Goods,
    Prices,
    Quanta,
    cost,
    fits,
    lesser,
    minus,
    whole,
)
from nomx.market.policy import MAX_WEIGHT, Award, Carry, Case, Outcome, Policy, Tenant

MAX_TENANTS = 10_000


@dataclass(frozen=True)
class Rules:
    """The settings of a market that tenants know. Times in nanoseconds."""

    goods: Goods = HOST_GOODS
    reserve: Prices = (1_000, 100, 1_000, 100)
    period_ns: int = SECOND_NS
    """How often the daemon means to call `tick`."""
    grace_ns: int = 2 * SECOND_NS
    """From a revocation to its deadline."""
    term_ns: int = 60 * SECOND_NS
    """How long a price is locked; 0 for never."""
    horizon_ns: int = 60 * SECOND_NS
    """How long savings should last when a tenant spends more than its income."""
    bids_per_second: int = 1
    bid_burst: int = 10
    longest_charge_ns: int = 60 * SECOND_NS
    """The most time charged at once: a clock that jumped, or a host that slept, is not the tenants' to pay."""


@dataclass(frozen=True)
class Turn:
    """What one call changed: what the daemon has to do, and what it has to store."""

    changes: Changes = field(default_factory=Changes)
    transactions: tuple[Transaction, ...] = ()
    lines: tuple[Line, ...] = ()
    outcome: Outcome | None = None
    """The awards and prices of the new period, from `tick`."""


@dataclass
class _Account:
    """The exchange's view of one tenant."""

    name: str
    seniority: int
    weight: int
    floor: Quanta
    floor_rate: int
    purse: Bucket
    bids: Bucket
    charged_ns: int
    held: Quanta
    under_notice: Quanta
    menu: Menu = NO_MENU
    award: Award = field(default_factory=lambda: Award(()))
    lock: PriceLock | None = None
    rate: int = 0
    """What it pays for *held* and *under_notice*, in micro-credits a second, since its last settlement."""
    due: int = 0
    """Micro-credit-nanoseconds that do not make a micro-credit yet."""
    work: int = 0


class Exchange:
    """A market on one host. Methods take the time *now_ns* (CLOCK_MONOTONIC)."""

    def __init__(self, capacity: Quanta, policy: Policy, rules: Rules = Rules()) -> None:
        self.rules = rules
        self.policy = policy
        self.ledger = Ledger()
        self.delivery = Delivery(capacity)
        self.prices: Prices = rules.reserve
        """Published: what a quantum costs a second, or, under a policy that does not charge, how scarce it is."""
        self._carry = Carry()
        self._tenants: dict[str, _Account] = {}
        self._admitted = 0

    @property
    def tenants(self) -> tuple[str, ...]:
        return tuple(self._tenants)

    @property
    def supply(self) -> Quanta:
        """Capacity less all floors."""
        supply = self.delivery.capacity
        for account in self._tenants.values():
            supply = minus(supply, account.floor)
        return supply

    @property
    def charged(self) -> Prices:
        """What tenants pay without a lock: the published prices, or nothing under a policy that does not charge."""
        return self.prices if self.policy.charges else self.rules.goods.nothing

    def award(self, name: str) -> Award:
        """What a tenant was promised above its floor in the last period."""
        return self._account(name).award

    def rate(self, name: str) -> int:
        """What a tenant pays now, in micro-credits a second: for its floor, its bundle, and what is under notice."""
        return self._account(name).rate

    def purse(self, name: str) -> int:
        """What a tenant can spend, in micro-credits, as of its last settlement."""
        return self._account(name).purse.tokens

    def join(
        self,
        name: str,
        now_ns: int,
        *,
        floor: Mapping[str, int] | None = None,
        income: int = 0,
        savings: int = 0,
        weight: int = 1,
    ) -> Turn:
        """Admit a tenant with a *floor* (quanta by resource name) and money.

        *income* comes in micro-credits a second; *savings* are what it starts with, and the most it can keep. The floor
        is bought ahead, at today's prices for as long as the tenant stays, and its income must pay for it.

        Raises: InvalidRequest: a number out of bounds, or an income below the floor's price.
            NotGranted: the name is taken, the floors would exceed the capacity, or there are MAX_TENANTS already.
        """
        goods = self.rules.goods
        tenant_name(name)
        quanta = goods.quanta(floor or {}, "floor", self.delivery.capacity)
        self._admit(name, quanta)
        floor_rate = cost(self.charged, quanta)
        whole(weight, "weight", MAX_WEIGHT, "shares", least=1)
        whole(income, "income", MAX_RATE, "micro-credits a second, enough for the floor", least=floor_rate)
        whole(savings, "savings", MAX_BALANCE)
        self._admitted += 1
        self._tenants[name] = _Account(
            name, self._admitted, weight, quanta, floor_rate,
            purse=Bucket(income, savings, savings, now_ns),
            bids=Bucket(self.rules.bids_per_second, self.rules.bid_burst, self.rules.bid_burst, now_ns),
            charged_ns=now_ns, held=goods.nothing, under_notice=goods.nothing, award=Award(goods.nothing),
        )  # fmt: skip
        self.delivery.admit(name, quanta)
        legs = {ISSUER: -savings, tenant_account(name): savings}
        posted = (self.ledger.post(now_ns, f"{name} joins", legs),) if savings else ()
        return self._deliver(now_ns, Turn(transactions=posted))

    def _admit(self, name: str, floor: Quanta) -> None:
        if name in self._tenants:
            raise NotGranted(resource="tenant name", asked=name, available="other names", holder=name)
        if len(self._tenants) >= MAX_TENANTS:
            raise NotGranted(resource="places in the market", asked=1, available=0, holder=f"{MAX_TENANTS} tenants")
        if not fits(floor, self.supply):
            goods = self.rules.goods
            raise NotGranted(
                resource="floor",
                asked=goods.by_name(floor),
                available=goods.by_name(self.supply),
                holder="the floors of others",
            )

    def bid(
        self, name: str, now_ns: int, points: Iterable[tuple[Mapping[str, int], int]], switching_cost: int = 0
    ) -> None:
        """Replace a tenant's menu, from the next period on; an empty one gives up all above the floor.

        Raises: WouldBlock: it bid too often.
            InvalidRequest: the menu is not acceptable (see `Menu.of`), or nobody has this name.
        """
        account = self._account(name)
        account.bids = account.bids.at(now_ns)
        spent = account.bids.take(1)
        if spent is None:
            wait_ms = account.bids.wait_ns(1) // 1_000_000 + 1
            raise WouldBlock(operation=f"a new bid by {name} (the next is possible in {wait_ms} ms)")
        account.bids = spent
        room = minus(self.delivery.capacity, account.floor)
        account.menu = Menu.of(self.rules.goods, room, points, switching_cost)

    def work(self, name: str, events: int) -> None:
        """Count good events, as the application declared them, for the tenant's next line."""
        self._account(name).work += whole(events, "events", MAX_BALANCE, "events")

    def give_back(self, name: str, quanta: Quanta, now_ns: int) -> Turn:
        """Take back *quanta* that were under notice, and grant them to who waits for them.

        Raises: InvalidRequest: so much is not under notice.
        """
        account = self._account(name)
        self.delivery.give_back(name, quanta)
        turn = self._settle([account], now_ns)
        self._reprice([account])
        return self._deliver(now_ns, turn)

    def repossess(self, now_ns: int) -> Turn:
        """End the notices whose deadline has come, and grant what they held to who waits for it.

        `tick` does it, too; between ticks the daemon calls this when a deadline passes.
        """
        accounts = [a for a in self._tenants.values() if self.delivery.overdue(a.name, now_ns)]
        turn = self._settle(accounts, now_ns)
        repossessions = self.delivery.expire(now_ns)
        self._reprice(accounts)
        delivered = self._deliver(now_ns, turn)
        return replace(delivered, changes=replace(delivered.changes, repossessions=repossessions))

    def leave(self, name: str, now_ns: int) -> Turn:
        """End a tenant: it pays to this instant, what it has is free, its savings go back to the issuer."""
        account = self._account(name)
        turn = self._settle([account], now_ns)
        if account.purse.tokens:
            legs = {tenant_account(name): -account.purse.tokens, ISSUER: account.purse.tokens}
            posted = self.ledger.post(now_ns, f"{name} leaves", legs)
            turn = replace(turn, transactions=(*turn.transactions, posted))
        self.delivery.leave(name)
        del self._tenants[name]
        return self._deliver(now_ns, turn)

    def resize(self, capacity: Quanta, now_ns: int) -> Turn:
        """Change what the host has (a device came or went); who holds too much is told in the next period.

        Raises: NotGranted: the floors would not fit any more.
        """
        floors = minus(self.delivery.capacity, self.supply)
        if not fits(floors, capacity):
            by_name = self.rules.goods.by_name
            raise NotGranted(
                resource="capacity", asked=by_name(floors), available=by_name(capacity), holder="the floors"
            )
        self.delivery.capacity = capacity
        return self._deliver(now_ns, Turn())

    def case(self, now_ns: int) -> Case:
        """The question that `tick` would put to the policy at *now_ns*. Changes nothing."""
        rules = self.rules
        tenants = []
        for a in self._tenants.values():
            lock = a.lock if a.lock and a.lock.until_ns > now_ns else None
            spend = self._spend(a, now_ns)
            tenants.append(Tenant(a.name, a.seniority, a.menu, a.award.quanta, spend, a.weight, lock))
        return Case.of(rules.goods, self.supply, rules.reserve, tenants, self._carry)

    def tick(self, now_ns: int) -> Turn:
        """End one period and begin the next: collect, repossess, clear, promise, give notice, grant.

        Raises: NotSupported: the policy cannot decide so many tenants; nothing has changed.
        """
        accounts = list(self._tenants.values())
        outcome = self.policy.clear(self.case(now_ns))
        turn = self._settle(accounts, now_ns)
        repossessions = self.delivery.expire(now_ns)
        old = {account.name: self._paying(account) for account in accounts}
        awards = {account.name: outcome.awards[account.name].quanta for account in accounts}
        changes = self.delivery.aim(awards, old, now_ns + self.rules.grace_ns)
        self.prices, self._carry = outcome.prices, outcome.carry
        for account in accounts:
            account.award = outcome.awards[account.name]
            account.lock = self._relock(account, now_ns)
        changes = replace(changes, repossessions=repossessions, grants=self.delivery.deliver())
        self._reprice(accounts)
        return replace(turn, changes=changes, outcome=outcome)

    def _account(self, name: str) -> _Account:
        if name not in self._tenants:
            raise InvalidRequest(field="tenant", value=repr(name), expected="a tenant of this market")
        return self._tenants[name]

    def _spend(self, account: _Account, now_ns: int) -> int:
        """The most it can pay for its bundle, beside what its floor and what stays under notice cost already."""
        if not self.policy.charges:
            return MAX_RATE
        purse = self._collect(account, now_ns)[0]
        rate = purse.sustained_rate(max(self.rules.period_ns, self.rules.horizon_ns))
        return min(MAX_RATE, max(0, rate - account.floor_rate - self.delivery.grace_rate(account.name, now_ns)))

    def _paying(self, account: _Account) -> Prices:
        """The prices at which a tenant has what it has: as published, or as locked where that is less."""
        return tuple(map(min, self.charged, account.lock.prices)) if account.lock else self.charged

    def _relock(self, account: _Account, now_ns: int) -> PriceLock | None:
        if not self.policy.charges or not any(account.award.quanta):
            return None
        if account.lock and account.lock.until_ns > now_ns:
            return account.lock.covering(account.award.quanta)
        if not self.rules.term_ns:
            return None
        return PriceLock(self.prices, account.award.quanta, now_ns + self.rules.term_ns)

    def _deliver(self, now_ns: int, turn: Turn) -> Turn:
        """Grant what is free to who waits for it, between two periods; *turn* is what happened before."""
        grants = self.delivery.deliver()
        changed = [self._tenants[name] for name in dict.fromkeys(grant.tenant for grant in grants)]
        settled = self._settle(changed, now_ns)
        self._reprice(changed)
        return Turn(Changes(grants=grants), turn.transactions + settled.transactions, turn.lines + settled.lines)

    def _reprice(self, accounts: Iterable[_Account]) -> None:
        """Note what each tenant possesses from now on, and what that costs."""
        for account in accounts:
            held = self.delivery.held(account.name)
            above = minus(held, lesser(held, account.floor))
            bundle = account.lock.cost(self.charged, above) if account.lock else cost(self.charged, above)
            floor_rate = account.floor_rate if fits(account.floor, held) else 0
            account.rate = floor_rate + bundle + self.delivery.grace_rate(account.name)
            account.held, account.under_notice = held, minus(self.delivery.possessed(account.name), held)

    def _collect(self, account: _Account, now_ns: int) -> tuple[Bucket, int, int, int]:
        """What settling at *now_ns* would do: (purse, income, paid, remainder due). Changes nothing."""
        elapsed_ns = min(max(0, now_ns - account.charged_ns), self.rules.longest_charge_ns)
        due, remainder = divmod(account.rate * elapsed_ns + account.due, SECOND_NS)
        return *account.purse.drained(now_ns, due), remainder

    def _settle(self, accounts: list[_Account], now_ns: int) -> Turn:
        """Pay out income and collect what is due since the last settlement, never more than the tenant has."""
        legs = {ISSUER: 0, HOST: 0}
        lines: list[Line] = []
        for account in accounts:
            account.purse, income, paid, account.due = self._collect(account, now_ns)
            legs[ISSUER] -= income
            legs[HOST] += paid
            legs[tenant_account(account.name)] = income - paid
            if now_ns != account.charged_ns:
                since = account.charged_ns
                lines.append(Line(account.name, since, now_ns, account.held, account.under_notice, paid, account.work))
                account.charged_ns, account.work = now_ns, 0
        posted = (self.ledger.post(now_ns, "settlement", legs),) if any(legs.values()) else ()
        return Turn(transactions=posted, lines=tuple(lines))
