"""Probes compiled at run time, filtered to a target: counts that are known, and messages that help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nomx.errors import InvalidRequest, NotSupported
from nomx.linux import btf
from nomx.trace import bcc, probe
from nomx.trace.probe import Probe
from nomx.trace.target import process
from tests.kernel.tracing import Workload

pytestmark = [pytest.mark.root, pytest.mark.feature("tp_btf")]


@pytest.fixture(autouse=True)
def needs_bcc() -> None:
    try:
        bcc.load()
    except NotSupported as reason:
        pytest.skip(str(reason))


COUNTS = """\
BPF_HASH(calls, u32, u64);
BPF_HISTOGRAM(numbers_hist);
RAW_TRACEPOINT_PROBE(sys_enter)
{
    u32 number = ctx->args[1];
    calls.increment(number);
    numbers_hist.increment(bpf_log2l(number));
    return 0;
}
"""


def test_an_expression_counts_the_target_and_nobody_else(program: Path) -> None:
    one, other = Workload(program), Workload(program)
    with Probe.open("sys_enter /id == 110/ { count(id); count(comm); hist(id) }", [process(one.pid)]) as probe:
        one.do("s1000")
        other.do("s5000")
        one.do("p3")
        by_id, by_comm, histogram = probe.tables()
    assert dict(by_id.rows) == {"110": 1030}, "children that are forked meanwhile are followed"
    assert dict(by_comm.rows) == {"workload": 1030}
    assert dict(histogram.rows) == {"7": 1030}
    one.end()
    other.end()


def test_a_c_file_is_filtered_without_its_help(workload: Workload, tmp_path: Path) -> None:
    path = tmp_path / "counts.c"
    path.write_text(COUNTS)
    with Probe.open(str(path), [process(workload.pid)]) as probe:
        workload.do("s777")
        tables = {table.heading: table for table in probe.tables()}
    assert dict(tables["calls"].rows)["110"] == 777
    assert tables["numbers_hist"].histogram


def test_fields_of_the_kernels_structs_are_where_this_kernel_has_them(workload: Workload) -> None:
    with Probe.open("sched_switch { count(prev->tgid) }", [process(workload.pid)]) as probe:
        workload.do("w50")
        (table,) = probe.tables()
    ((tgid, count),) = table.rows
    assert int(tgid) == workload.pid
    assert count >= 50


def test_an_error_names_the_users_line(workload: Workload, tmp_path: Path) -> None:
    path = tmp_path / "wrong.c"
    path.write_text(COUNTS.replace("u32 number = ctx", "u32 number = nothing"))
    with pytest.raises(InvalidRequest, match=r"wrong\.c, line 5: u32 number = nothing->args\[1\];.*undeclared"):
        Probe.open(str(path), [process(workload.pid)])
    with pytest.raises(InvalidRequest, match="undeclared identifier 'colour'"):
        Probe.open("sys_enter { count(colour) }", [process(workload.pid)])


def test_tracefs_that_is_not_mounted_is_said_with_the_line_that_mounts_it(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tp.c"
    path.write_text("TRACEPOINT_PROBE(net, napi_poll) { return 0; }\n")
    monkeypatch.setattr(probe, "_TRACEFS", (tmp_path / "nowhere",))
    with pytest.raises(NotSupported, match="mount -t tracefs none /sys/kernel/tracing"):
        Probe.open(str(path), [process(workload.pid)])


def test_bcc_that_is_missing_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcc, "_FOLDERS", ("no/such/folder",))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(NotSupported, match="apt-get install python3-bpfcc"):
        bcc.load()


def test_nothing_else_of_the_distribution_is_imported() -> None:
    code = "import sys; from nomx.trace import bcc; bcc.load(); print([p for p in sys.path if 'dist-packages' in p])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_headers_are_gone_afterwards() -> None:
    with bcc.kernel_headers() as folder:
        text = (folder / "include" / "vmlinux.h").read_text()
        assert "struct task_struct {" in text
    assert not folder.exists()


def test_tracepoints_have_their_arguments() -> None:
    arguments = btf.tracepoint_arguments("napi_poll")
    assert arguments is not None
    assert [argument.name for argument in arguments] == ["napi", "work", "budget"]
    assert btf.tracepoint_arguments("no_such_tracepoint") is None
