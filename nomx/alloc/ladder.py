"""The ladder of paths, judged: what the probes found → for each path yes or no, why, and how to mend it. Pure.

The daemon tells its clients by it, and `nomx doctor` an administrator who has no daemon yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from nomx.api.lease import Verdict
from nomx.types import Finding

SOFT_NEEDS = ("root", "netns", "libbpf", "bpf", "af_xdp", "veth_xdp")
"""What a soft VF is made with, in the order in which a lack is told."""

NOT_YET = "this version of nomx does not hand it out yet"


def judge(findings: Mapping[str, Finding]) -> tuple[Verdict, ...]:
    """Give one verdict for each path, lowest first; *findings* are by feature, as `nomx.linux.probe` names them."""
    kernel = Verdict("kernel", available=True, reason="ordinary sockets need nothing")
    return (kernel, _soft(findings), _vf(findings), _memif(), _vfio(findings))


def _soft(findings: Mapping[str, Finding]) -> Verdict:
    for feature in SOFT_NEEDS:
        finding = findings[feature]
        if not finding.available:
            return Verdict("soft", available=False, reason=f"{feature}: {finding.reason}", remedy=finding.remedy)
    return Verdict("soft", available=True, reason="veth pairs, native XDP and AF_XDP in copy mode")


def _vf(findings: Mapping[str, Finding]) -> Verdict:
    return _not_yet("vf", [findings["sriov"]])


def _memif() -> Verdict:
    return _not_yet("memif", [])


def _vfio(findings: Mapping[str, Finding]) -> Verdict:
    return _not_yet("vfio", [findings["sriov"], findings["iommu"], findings["vfio"]])


def _not_yet(path: str, needs: list[Finding]) -> Verdict:
    """Judge a path that no machine gets yet: what the machine lacks for it is told too."""
    lacks = [finding for finding in needs if not finding.available]
    machine = (
        f"; and {', '.join(finding.reason for finding in lacks)}"
        if lacks
        else ", though this machine has what it takes"
    )
    remedy = "; ".join(finding.remedy for finding in lacks)
    return Verdict(path, available=False, reason=NOT_YET + machine, remedy=remedy)
