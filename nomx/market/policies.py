"""The policies by name, as settings, scenarios and the command line call them."""

from __future__ import annotations

from nomx.errors import InvalidRequest
from nomx.market.clearing import Market, Priorities
from nomx.market.exact import Exact
from nomx.market.fairness import DominantResource, Karma
from nomx.market.policy import Policy
from nomx.market.shares import FirstCome, StaticShares, WeightedShares

POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Market(),
        Priorities(),
        DominantResource(),
        Karma(),
        WeightedShares(),
        FirstCome(),
        StaticShares(),
        Exact(),
    )
}


def policy_named(name: str) -> Policy:
    """Return the policy called *name*, with its usual settings.

    Raises: InvalidRequest: there is none.
    """
    if name not in POLICIES:
        raise InvalidRequest(field="policy", value=repr(name), expected=f"one of {', '.join(POLICIES)}")
    return POLICIES[name]
