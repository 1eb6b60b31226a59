"""The pytest plugin: markers that say what a test needs, and a guard that finds what a test left behind.

    @pytest.mark.root                  needs uid 0
    @pytest.mark.netns                 needs to make network namespaces and veths
    @pytest.mark.lab                   needs the SR-IOV guest of tests/lab
    @pytest.mark.slow                  takes longer than ten seconds
    @pytest.mark.feature("memfd_huge") needs what the probe of that name in `nomx.linux.probe` finds

A test whose need is not met is skipped with the reason. `NOMX_REQUIRE=root,netns` names needs that
this machine must meet: then such a skip is a failure, so that CI never passes by skipping.

Every kernel object of a test derives its name from the instance that the `instance` fixture gives,
and every process a test starts inherits `NOMX_TEST`; by these two the guard knows what is ours on a
machine where other sessions run at the same time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import pytest

from nomx.testing.leftovers import SESSION, TEST_VARIABLE, Leftovers

NEEDS = {
    "root": "needs uid 0",
    "netns": "needs to make network namespaces and veths",
    "lab": "needs the SR-IOV guest of tests/lab",
    "slow": "takes longer than ten seconds",
    "feature": "needs a kernel feature, by the name of its probe",
}
LEFTOVER_DEADLINE_S = 5.0
"""How long the kernel may take to free what a test released (a namespace dies asynchronously)."""

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers, and mark every process that this session starts."""
    for name, meaning in NEEDS.items():
        argument = "(name)" if name == "feature" else ""
        config.addinivalue_line("markers", f"{name}{argument}: {meaning}")
    os.environ[TEST_VARIABLE] = SESSION


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs are not met; fail it where NOMX_REQUIRE names the need."""
    for need, reason in _unmet(item):
        if need in required():
            pytest.fail(f"NOMX_REQUIRE={need}, but {reason}", pytrace=False)
        pytest.skip(reason)


def required() -> frozenset[str]:
    """Give the needs that this machine must meet, from NOMX_REQUIRE."""
    return frozenset(filter(None, os.environ.get("NOMX_REQUIRE", "").split(",")))


def _unmet(item: pytest.Item) -> Iterator[tuple[str, str]]:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        yield "root", "it needs root: sudo ./dev test"
    if item.get_closest_marker("netns"):
        from nomx.linux.probe import network_namespaces

        finding = network_namespaces()
        if not finding.available:
            yield "netns", f"network namespaces: {finding.reason}"
    for marker in item.iter_markers("feature"):
        from nomx.linux.probe import probe

        finding = probe(marker.args[0])
        if not finding.available:
            yield marker.args[0], f"{finding.feature}: {finding.reason}"


@pytest.fixture
def instance() -> str:
    """A daemon instance's name of this test alone; short enough for an interface name made from it."""
    return f"{SESSION}{_letters(next(_numbers))}"


def _letters(number: int) -> str:
    """Write *number* (from 1) in letters, so that it cannot be read as part of the session's pid."""
    text = ""
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


@pytest.fixture(autouse=True)
def nothing_remains(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a namespace, link, cgroup, pin, directory, mount or process of this session behind.

    What a fixture of a wider scope made is there before the test begins, and is judged at the session's end.
    """
    if not {"root", "netns", "slow"}.intersection(mark.name for mark in request.node.iter_markers()):
        yield
        return
    before = Leftovers.of_session()
    yield
    _fail_on_leftovers("the test", before)


@pytest.fixture(scope="session", autouse=True)
def nothing_remains_after_all() -> Iterator[None]:
    """Fail the session that leaves anything behind, whatever its tests were marked."""
    before = Leftovers.of_session()
    yield
    _fail_on_leftovers("the session", before)


def _fail_on_leftovers(culprit: str, before: Leftovers) -> None:
    deadline = time.monotonic() + LEFTOVER_DEADLINE_S
    while (found := Leftovers.of_session() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    if found:
        pytest.fail(f"{culprit} left behind: {found}", pytrace=False)
