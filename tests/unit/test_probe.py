"""Feature probes and the ladder judged from them: every answer has a reason, every no of the machine's has a remedy."""

import os
from dataclasses import replace

import pytest

from nomx.alloc.ladder import NOT_YET, SOFT_NEEDS, judge
from nomx.linux.probe import PROBES, findings, probe
from nomx.types import Finding

EVERYTHING = {name: Finding(name, available=True, reason="taught") for name in PROBES}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_tells_its_own_name_and_a_reason(name: str) -> None:
    finding = probe(name)
    assert finding.feature == name
    assert finding.reason
    assert finding.available or finding.remedy


def test_probes_agree_with_what_the_kernel_says_of_us() -> None:
    assert probe("root").available == (os.geteuid() == 0)


@pytest.mark.root
@pytest.mark.netns
def test_probes_leave_the_host_as_it_was() -> None:
    before = sorted(os.listdir("/sys/class/net")), sorted(os.listdir("/proc/self/fd"))
    findings()
    assert (sorted(os.listdir("/sys/class/net")), sorted(os.listdir("/proc/self/fd"))) == before


def test_the_ladder_is_judged_lowest_first_and_whole() -> None:
    verdicts = judge(EVERYTHING)
    assert [verdict.path for verdict in verdicts] == ["kernel", "soft", "vf", "memif", "vfio"]
    assert [verdict.available for verdict in verdicts] == [True, True, False, False, False]


@pytest.mark.parametrize("lack", SOFT_NEEDS)
def test_a_lack_is_told_with_its_remedy(lack: str) -> None:
    missing = replace(EVERYTHING[lack], available=False, reason="not there", remedy="make it")
    soft = judge({**EVERYTHING, lack: missing})[1]
    assert (soft.available, soft.reason, soft.remedy) == (False, f"{lack}: not there", "make it")


def test_what_is_not_handed_out_yet_is_said_as_exactly_that() -> None:
    assert all(NOT_YET in verdict.reason for verdict in judge(EVERYTHING) if not verdict.available)


def test_the_kernel_path_needs_nothing() -> None:
    nothing = {name: replace(finding, available=False) for name, finding in EVERYTHING.items()}
    assert [verdict.path for verdict in judge(nothing) if verdict.available] == ["kernel"]
