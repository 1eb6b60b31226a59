"""From promises to possession: what is granted now, revoked by when, and waits for whom; between policy and daemon.

Three things are kept apart: what a tenant *wants* (its menu), what it was *promised* (floor and award), and what it
*holds*. What it must give back is under notice: it is still the tenant's, at the old price, until it gives it back or
the deadline passes and the daemon repossesses. Only what nobody has is granted, so holdings and notices together never
exceed the capacity, at no instant.

Source: Engler et al., "Exokernel" (SOSP 1995), for visible revocation and repossession.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nomx.errors import InvalidRequest
from nomx.market.money import Prices, Quanta, cost, fits, lesser, minus, plus


@dataclass(frozen=True, slots=True)
class Grant:
    """*quanta* are the tenant's from now on."""

    tenant: str
    quanta: Quanta


@dataclass(frozen=True, slots=True)
class Revocation:
    """The tenant is to give *quanta* back by *deadline_ns*."""

    tenant: str
    quanta: Quanta
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Reprieve:
    """*quanta* under notice stay with the tenant after all."""

    tenant: str
    quanta: Quanta


@dataclass(frozen=True, slots=True)
class Repossession:
    """The deadline for *quanta* has passed: the daemon takes them, asked or not."""

    tenant: str
    quanta: Quanta


@dataclass(frozen=True, slots=True)
class Changes:
    """What the daemon has to do, in this order: repossess, reprieve, revoke, grant."""

    repossessions: tuple[Repossession, ...] = ()
    reprieves: tuple[Reprieve, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """Quanta under notice: until the deadline their tenant has them, and pays the old *prices*."""

    quanta: Quanta
    deadline_ns: int
    prices: Prices


class Delivery:
    """Who holds what of a host's *capacity*, floors included, and who waits for what was promised."""

    def __init__(self, capacity: Quanta) -> None:
        self.capacity = capacity
        self._nothing: Quanta = (0,) * len(capacity)
        self._floor: dict[str, Quanta] = {}
        self._promised: dict[str, Quanta] = {}
        self._held: dict[str, Quanta] = {}
        self._notices: dict[str, tuple[Notice, ...]] = {}
        self._waiting: dict[str, None] = {}
        """Who was promised more than it holds, the longest first."""

    def held(self, tenant: str) -> Quanta:
        """What it holds and may keep, floor included."""
        return self._held[tenant]

    def promised(self, tenant: str) -> Quanta:
        return self._promised[tenant]

    def notices(self, tenant: str) -> tuple[Notice, ...]:
        return self._notices.get(tenant, ())

    def possessed(self, tenant: str) -> Quanta:
        """Everything that nobody else can have now: what it holds and what is under notice."""
        total = self._held[tenant]
        for notice in self.notices(tenant):
            total = plus(total, notice.quanta)
        return total

    def grace_rate(self, tenant: str, after_ns: int = -1) -> int:
        """What its quanta under notice cost, in micro-credits a second; with deadlines later than *after_ns* only."""
        return sum(
            cost(notice.prices, notice.quanta) for notice in self.notices(tenant) if notice.deadline_ns > after_ns
        )

    @property
    def free(self) -> Quanta:
        """What nobody possesses; negative, where the capacity has shrunk below what tenants possess."""
        totals = [sum(column) for column in zip(*self._held.values(), self._nothing, strict=True)]
        for notices in self._notices.values():
            for notice in notices:
                totals = [total + count for total, count in zip(totals, notice.quanta, strict=True)]
        return minus(self.capacity, tuple(totals))

    def admit(self, tenant: str, floor: Quanta) -> None:
        """Promise a new tenant its floor. It is granted by the next `deliver` that finds it free."""
        self._floor[tenant] = self._promised[tenant] = floor
        self._held[tenant] = self._nothing
        self._waiting[tenant] = None

    def leave(self, tenant: str) -> Quanta:
        """Free all that a tenant possesses, which is returned: it ended, or was ended."""
        possessed = self.possessed(tenant)
        for table in (self._floor, self._promised, self._held):
            del table[tenant]
        self._notices.pop(tenant, None)
        self._waiting.pop(tenant, None)
        return possessed

    def aim(self, awards: Mapping[str, Quanta], old_prices: Mapping[str, Prices], deadline_ns: int) -> Changes:
        """Promise each tenant its floor and *awards*, and give notice of what it holds beyond that.

        What a tenant gains is first met from what it has under notice itself. The rest waits for `deliver`.
        """
        reprieves: list[Reprieve] = []
        revocations: list[Revocation] = []
        for tenant, award in awards.items():
            target = plus(self._floor[tenant], award)
            if target == self._held[tenant] == self._promised[tenant]:
                continue
            self._promised[tenant] = target
            kept = lesser(self._held[tenant], target)
            lost = minus(self._held[tenant], kept)
            self._held[tenant] = kept
            back = self._take_from_notices(tenant, minus(target, kept))
            if any(back):
                self._held[tenant] = plus(kept, back)
                reprieves.append(Reprieve(tenant, back))
            if self._held[tenant] == target:
                self._waiting.pop(tenant, None)
            else:
                self._waiting.setdefault(tenant)
            if any(lost):
                notice = Notice(lost, deadline_ns, old_prices[tenant])
                self._notices[tenant] = (*self.notices(tenant), notice)
                revocations.append(Revocation(tenant, lost, deadline_ns))
        return Changes(reprieves=tuple(reprieves), revocations=tuple(revocations))

    def deliver(self) -> tuple[Grant, ...]:
        """Grant what was promised and is free: floors first, then who waits longest.

        Each gets all that it waits for, or nothing yet.
        """
        if not self._waiting:
            return ()
        free = self.free
        grants: list[Grant] = []
        for due in (self._floor, self._promised):
            for tenant in self._waiting:
                held = self._held[tenant]
                missing = minus(due[tenant], lesser(due[tenant], held))
                if any(missing) and fits(missing, free):
                    free = minus(free, missing)
                    self._held[tenant] = plus(held, missing)
                    grants.append(Grant(tenant, missing))
        self._waiting = {t: None for t in self._waiting if self._held[t] != self._promised[t]}
        return tuple(grants)

    def give_back(self, tenant: str, quanta: Quanta) -> None:
        """Free *quanta* of what a tenant has under notice, the earliest deadline first: it acknowledged a revocation.

        Raises: InvalidRequest: it has not so much under notice; nothing is changed.
        """
        under_notice = minus(self.possessed(tenant), self._held[tenant])
        if min(quanta) < 0 or not fits(quanta, under_notice):
            raise InvalidRequest(field="quanta", value=quanta, expected=f"no more than is under notice: {under_notice}")
        self._take_from_notices(tenant, quanta)

    def _take_from_notices(self, tenant: str, most: Quanta) -> Quanta:
        """Lift up to *most* quanta out of a tenant's notices, the earliest first; return what was lifted."""
        taken, rest = self._nothing, []
        for notice in self.notices(tenant):
            part = lesser(notice.quanta, minus(most, taken))
            taken = plus(taken, part)
            if part != notice.quanta:
                rest.append(replace(notice, quanta=minus(notice.quanta, part)))
        self._keep(tenant, rest)
        return taken

    def overdue(self, tenant: str, now_ns: int) -> bool:
        """Whether a deadline of the tenant's has come."""
        return any(notice.deadline_ns <= now_ns for notice in self.notices(tenant))

    def expire(self, now_ns: int) -> tuple[Repossession, ...]:
        """End the notices whose deadline is *now_ns* or earlier; the daemon takes what they name before it goes on."""
        repossessions: list[Repossession] = []
        for tenant in list(self._notices):
            due = [notice for notice in self.notices(tenant) if notice.deadline_ns <= now_ns]
            repossessions += [Repossession(tenant, notice.quanta) for notice in due]
            if due:
                self._keep(tenant, [notice for notice in self.notices(tenant) if notice.deadline_ns > now_ns])
        return tuple(repossessions)

    def _keep(self, tenant: str, notices: list[Notice]) -> None:
        if notices:
            self._notices[tenant] = tuple(notices)
        else:
            self._notices.pop(tenant, None)
