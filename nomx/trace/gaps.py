"""What tracing cannot see on this machine, found by trying, each with the reason. Named in every report."""

from __future__ import annotations

import os
from pathlib import Path

from nomx.errors import NotPermitted
from nomx.linux.libbpf import lib
from nomx.linux.probe_bpf import fentry
from nomx.linux.process import has_capability
from nomx.trace.report import Gap

_ATTACH_TRACE_RAW_TP = 23
_EVENT_SOURCES = Path("/sys/bus/event_source/devices")
_BTF = Path("/sys/kernel/btf/vmlinux")
_CAP_SYS_ADMIN = 21
_NEEDED = {"CAP_BPF": 39, "CAP_PERFMON": 38}

TRACEPOINTS = {
    "nomx_return": ("sys_exit", "time inside system calls"),
    "nomx_fault_kernel": ("page_fault_kernel", "page faults taken inside system calls"),
    "nomx_fork": ("sched_process_fork", "children that are forked while tracing"),
    "nomx_exit": ("sched_process_exit", "the last moments of threads that end"),
    "nomx_softirq": ("softirq_entry", "time stolen by softirqs, and the time of NAPI polls"),
    "nomx_softirq_end": ("softirq_exit", "time stolen by softirqs"),
    "nomx_interrupt": ("irq_handler_entry", "interrupts of devices"),
    "nomx_interrupt_end": ("irq_handler_exit", "time stolen by interrupts"),
    "nomx_message_rx": ("sock_recv_length", "messages received at socket calls (Linux 6.3)"),
    "nomx_message_tx": ("sock_send_length", "messages sent at socket calls (Linux 6.3)"),
    "nomx_redirect": ("xdp_redirect", "XDP redirects"),
    "nomx_redirect_err": ("xdp_redirect_err", "XDP redirects that failed"),
    "nomx_exception": ("xdp_exception", "XDP verdicts that failed"),
}
"""The tracepoint of each optional program, and what is not measured without it."""


LEFT_OUT = Gap(
    "polls, softirqs and interrupts",
    "they were left out (--no-softirqs): what they steal counts into what they interrupted",
)


def check_permitted() -> None:
    """Raise NotPermitted, naming the capability, unless this process may load tracing programs."""
    if has_capability(_CAP_SYS_ADMIN):
        return
    missing = [name for name, bit in _NEEDED.items() if not has_capability(bit)]
    if missing:
        remedy = "run it as root (sudo), or with CAP_BPF and CAP_PERFMON, and CAP_NET_ADMIN for packets at sockets"
        raise NotPermitted(operation="tracing", missing=f"{' and '.join(missing)} missing", remedy=remedy)


def missing_programs(wanted: frozenset[str]) -> dict[str, Gap]:
    """Return those of the *wanted* optional programs whose tracepoint this kernel has not."""
    gaps = {}
    for program in sorted(wanted & TRACEPOINTS.keys()):
        tracepoint, what = TRACEPOINTS[program]
        if lib().libbpf_find_vmlinux_btf_id(tracepoint.encode(), _ATTACH_TRACE_RAW_TP) <= 0:
            gaps[program] = Gap(what, f"this kernel has no tracepoint {tracepoint}", "use a newer kernel")
    return gaps


def of_machine() -> list[Gap]:
    """Return what no setting of the tracer measures here."""
    gaps = []
    hook = fentry()
    if not hook.available:
        why = f"it takes functions hooked by fentry: {hook.reason}"
        gaps.append(Gap("XDP verdicts PASS, DROP and TX; time inside page faults", why, hook.remedy))
    else:
        why = "no program of the tracer hooks functions yet; page faults are in user time"
        gaps.append(Gap("XDP verdicts PASS, DROP and TX; time inside page faults", why))
    if not (_EVENT_SOURCES / "kprobe").is_dir():
        why = "this kernel has no kprobes (CONFIG_KPROBES)"
        gaps.append(Gap("calls of single kernel functions", why, "--by function samples them instead"))
    if not (_EVENT_SOURCES / "cpu").is_dir():
        why = "there are no hardware counters (a virtual machine without a PMU?)"
        gaps.append(Gap("cycles and cache misses", why))
    gaps.append(Gap("time of timer ticks and inter-processor interrupts", "they count into what they interrupted"))
    return gaps


def missing_btf() -> bool:
    """Return whether the kernel does not describe its types, so that no program can be loaded."""
    return not os.access(_BTF, os.R_OK)
