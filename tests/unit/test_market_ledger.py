"""The ledger: all legs or none, nothing from nothing, and the same again from its transactions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.errors import InvalidRequest, NotGranted
from nomx.market.ledger import HOST, ISSUER, Ledger, Line, bill, cost_per_million, tenant_account

MOVES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 10**15)), max_size=30)


@given(MOVES)
def test_credits_are_conserved_and_replayed(moves: list[tuple[str, str, int]]) -> None:
    ledger = Ledger()
    posted = [ledger.post(0, "start", {ISSUER: -(10**15), account: 10**15}) for account in "abc"]
    for payer, payee, amount in moves:
        before = ledger.balances
        try:
            posted.append(ledger.post(1, "pays", {payer: -amount, payee: amount} if payer != payee else {payer: 0}))
        except NotGranted:
            assert ledger.balances == before
            assert amount > before.get(payer, 0)
    assert ledger.total == 0
    assert sum(ledger.balance(account) for account in "abc") == 3 * 10**15
    assert Ledger.replay(posted).balances == ledger.balances


def test_a_posting_that_makes_money_is_refused() -> None:
    ledger = Ledger()
    with pytest.raises(InvalidRequest, match="sum to 0"):
        ledger.post(0, "theft", {HOST: 1})
    assert ledger.balances == {}


def test_a_missing_transaction_is_noticed() -> None:
    ledger = Ledger()
    first, second = (ledger.post(n, "pays", {ISSUER: -1, HOST: 1}) for n in range(2))
    for broken in ([second], [first, first], [second, first]):
        with pytest.raises(InvalidRequest, match="number"):
            Ledger.replay(broken)


def test_no_tenant_can_be_called_like_the_issuer() -> None:
    assert tenant_account("issuer") != ISSUER
    assert tenant_account("host") != HOST


def test_a_bill_adds_up() -> None:
    lines = [Line("a", 0, 5, (1,), (0,), 30, 10), Line("a", 5, 9, (2,), (1,), 12, 4)]
    total = bill(lines)
    assert total == Line("a", 0, 9, (2,), (1,), 42, 14)
    assert cost_per_million(total) == 3.0
    assert cost_per_million(lines[0]) == 3.0
    assert cost_per_million(Line("a", 0, 1, (1,), (0,), 5, 0)) is None
    assert bill([]) is None
