"""The books: double-entry accounts in integer micro-credits; every credit comes from the issuer and is somewhere.

The core only: it judges postings and keeps balances. Whoever calls it stores the transactions, and `Ledger.replay`
makes the same ledger from them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nomx.errors import InvalidRequest, NotGranted
from nomx.market.money import Quanta

ISSUER = "issuer"
"""Where credits come from: the only account that may be below zero; its debt is the money in circulation."""

HOST = "host"
"""What tenants paid."""


def tenant_account(name: str) -> str:
    """The account of tenant *name*; no name makes it that of the issuer or the host."""
    return f"tenant:{name}"


@dataclass(frozen=True, slots=True)
class Transaction:
    """Credits that moved at one instant: *legs* are (account, micro-credits received), and sum to zero."""

    number: int
    """Counts from 1 without a gap."""
    at_ns: int
    reason: str
    legs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What one tenant held, paid and did over a stretch of time: a line of its bill."""

    tenant: str
    from_ns: int
    to_ns: int
    held: Quanta
    """With its floor, without what was under notice."""
    under_notice: Quanta
    paid: int
    """Micro-credits, for the floor, the bundle above it, and what was under notice."""
    work: int
    """Good events, as the application declared them."""


class Ledger:
    """Balances, and the rules that every change of them obeys."""

    def __init__(self) -> None:
        self._balances: dict[str, int] = {}
        self._posted = 0

    @classmethod
    def replay(cls, transactions: Iterable[Transaction]) -> Ledger:
        """Make the ledger that wrote *transactions*.

        Raises: InvalidRequest: one is missing, there twice, or not one that a ledger would have written.
        """
        ledger = cls()
        for transaction in transactions:
            if transaction.number != ledger._posted + 1:
                raise InvalidRequest(
                    field="number", value=transaction.number, expected=f"transaction {ledger._posted + 1}"
                )
            ledger.post(transaction.at_ns, transaction.reason, dict(transaction.legs))
        return ledger

    def balance(self, account: str) -> int:
        return self._balances.get(account, 0)

    @property
    def balances(self) -> Mapping[str, int]:
        """Every account that is not empty."""
        return dict(self._balances)

    @property
    def total(self) -> int:
        """The sum of all balances: zero, always."""
        return sum(self._balances.values())

    def post(self, at_ns: int, reason: str, legs: Mapping[str, int]) -> Transaction:
        """Move credits, all legs or none.

        Raises: InvalidRequest: the legs do not sum to zero.
            NotGranted: an account other than the issuer's would go below zero.
        """
        if sum(legs.values()) != 0:
            raise InvalidRequest(field="legs", value=sum(legs.values()), expected="legs that sum to 0")
        for account, amount in legs.items():
            if self.balance(account) + amount < 0 and account != ISSUER:
                raise NotGranted(
                    resource="micro-credits",
                    asked=-amount,
                    available=self.balance(account),
                    holder=f"account {account}",
                )
        for account, amount in legs.items():
            self._balances[account] = self.balance(account) + amount
            if not self._balances[account]:
                del self._balances[account]
        self._posted += 1
        return Transaction(self._posted, at_ns, reason, tuple((a, n) for a, n in legs.items() if n))


def bill(lines: Iterable[Line]) -> Line | None:
    """Add up the lines of one tenant: total paid and work, with the holdings of the last; None of none."""
    total: Line | None = None
    for line in lines:
        if total is None:
            total = line
        else:
            paid, work = total.paid + line.paid, total.work + line.work
            total = Line(line.tenant, total.from_ns, line.to_ns, line.held, line.under_notice, paid, work)
    return total


def cost_per_million(line: Line) -> float | None:
    """Credits paid for a million good events; None, where there were none."""
    return line.paid / line.work if line.work else None
