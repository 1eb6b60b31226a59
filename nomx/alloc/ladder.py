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
    sriov = findings["sriov"]
    if not sriov.available:
        return Verdict("vf", available=False, reason=f"{sriov.reason}; and {NOT_YET}", remedy=sriov.remedy)
    return Verdict("vf", available=False, reason=f"{sriov.reason}, but {NOT_YET}", remedy="use --path soft meanwhile")


def _memif() -> Verdict:
    return Verdict("memif", available=False, reason=f"it needs nothing of the machine, but {NOT_YET}")


def _vfio(findings: Mapping[str, Finding]) -> Verdict:
    lacks = [findings[feature] for feature in ("sriov", "iommu", "vfio") if not findings[feature].available]
    if not lacks:
        return Verdict("vfio", available=False, reason=f"the machine could, but {NOT_YET}")
    reason = "; ".join(finding.reason for finding in lacks)
    remedy = "; ".join(finding.remedy for finding in lacks)
    return Verdict("vfio", available=False, reason=f"{reason}; and {NOT_YET}", remedy=remedy)
