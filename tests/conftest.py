"""Fixtures of every test; markers, NOMX_REQUIRE and the guard against leftovers live in `nomx.testing.plugin`."""
