"""Fixtures of every test; markers, NOMX_REQUIRE and the guard against leftovers live in `nomx.testing.plugin`.

Property tests try the same examples in every run. `--hypothesis-profile=deep` tries new ones, and many more.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("default", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
