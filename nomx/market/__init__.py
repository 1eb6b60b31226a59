"""PURE: money, bids, prices, clearing, policies, ledger, and the simulation of them; no clock, no system call, no file.

    bids ─→ exchange ─→ policy.clear ─→ delivery (grants, revocations) ─→ the daemon, later
               │            │
             budget       prices ─→ sources ─→ the bulletin board, later
               └──→ ledger

Time and randomness are parameters everywhere, so that an hour of market replays to the micro-credit.
"""
