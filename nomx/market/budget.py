"""What a tenant may spend and how often it may speak: token buckets, locked prices; the exchange keeps one of each a
tenant.

All arithmetic is exact: what does not make up a whole token is carried in the remainder, so that a bucket
read a thousand times a second holds the same as one read once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nomx.market.money import SECOND_NS, Prices, Quanta, cost, lesser


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: *rate* tokens a second, at most *burst* of them kept."""

    rate: int
    burst: int
    tokens: int
    at_ns: int
    """When *tokens* was true (CLOCK_MONOTONIC)."""
    remainder: int = 0
    """Token-nanoseconds that do not make a token yet."""

    def at(self, now_ns: int) -> Bucket:
        """The bucket at *now_ns*. A clock that went backwards adds nothing, and counts from where it is now."""
        return self.drained(now_ns, 0)[0]

    def drained(self, now_ns: int, due: int) -> tuple[Bucket, int, int]:
        """The bucket at *now_ns*, when *due* tokens flowed out while it filled: (bucket, tokens in, tokens out).

        No more flows out than was there and came in; only what then exceeds the burst is lost.
        """
        elapsed_ns = max(0, now_ns - self.at_ns)
        new, remainder = divmod(self.rate * elapsed_ns + self.remainder, SECOND_NS)
        out = min(due, self.tokens + new)
        tokens = self.tokens + new - out
        if tokens > self.burst:
            tokens, remainder = max(self.burst, self.tokens - out), 0
        filled = Bucket(self.rate, self.burst, tokens, now_ns, remainder)
        return filled, tokens + out - self.tokens, out

    def take(self, count: int) -> Bucket | None:
        """The bucket without *count* tokens; None, if it does not hold so many."""
        return replace(self, tokens=self.tokens - count) if count <= self.tokens else None

    def wait_ns(self, count: int) -> int:
        """Nanoseconds until it holds *count* tokens (at most its burst), if nothing is taken meanwhile."""
        missing = (count - self.tokens) * SECOND_NS - self.remainder
        return max(0, -(-missing // self.rate))

    def sustained_rate(self, horizon_ns: int) -> int:
        """The most tokens a second that can flow out for up to *horizon_ns* without running it dry.

        What is saved is spread over the horizon, so that a tenant does not climb to a point in one period and fall
        from it in the next.
        """
        return self.rate + self.tokens * SECOND_NS // horizon_ns


@dataclass(frozen=True, slots=True)
class PriceLock:
    """For a term, *quanta* of what a tenant holds cost no more than *prices*, whatever the market does.

    It locks the price and not the quantity: others can still outbid the holder. (Locking quantities for
    ten periods cost a prototype 8 to 16 % of welfare.)
    """

    prices: Prices
    quanta: Quanta
    until_ns: int

    def cost(self, published: Prices, quanta: Quanta) -> int:
        """The rate of *quanta*: what is locked at the lower price, the rest as published (micro-credits a second)."""
        saved = sum(
            max(0, now - locked) * min(wanted, covered)
            for now, locked, wanted, covered in zip(published, self.prices, quanta, self.quanta, strict=True)
        )
        return cost(published, quanta) - saved

    def covering(self, quanta: Quanta) -> PriceLock:
        """The lock after a change of holding: what was given up is locked no longer, what was added never was."""
        return replace(self, quanta=lesser(self.quanta, quanta))
