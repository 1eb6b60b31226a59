"""A plan: what will be done for a request, in order, and what the requester will be told."""

from __future__ import annotations

from dataclasses import dataclass

from nomx.alloc.actions import Action
from nomx.api.lease import Verdict


@dataclass(frozen=True)
class Plan:
    """The steps to a grant of *path*, and one verdict for each higher path that was passed over."""

    path: str
    actions: tuple[Action, ...]
    verdicts: tuple[Verdict, ...] = ()
