"""One-line probes: what they translate to, and what is refused."""

from __future__ import annotations

import pytest

from nomx.errors import InvalidRequest
from nomx.linux.btf import Argument
from nomx.trace.expression import Source, compile_expression
from nomx.trace.probe import filtered

ARGUMENTS = (Argument("napi", "struct napi_struct *napi"), Argument("work", "int work"))


def compiled(expression: str) -> Source:
    return compile_expression(expression, lambda name: ARGUMENTS if name == "napi_poll" else None)


def test_arguments_have_the_kernels_names() -> None:
    text = compiled("napi_poll { hist(work) }").text
    assert "struct napi_struct *napi = (struct napi_struct *)ctx->args[0];" in text
    assert "int work = (int)ctx->args[1];" in text
    assert "RAW_TRACEPOINT_PROBE(napi_poll)" in text
    assert "bpf_log2l((u64)(work))" in text


def test_without_an_action_it_counts() -> None:
    (table,) = compiled("napi_poll").tables
    assert table.heading == "count()"
    assert not table.histogram


def test_several_actions_have_several_tables() -> None:
    source = compiled("napi_poll /work > 0/ { hist(work); count(comm); sum(work, f(cpu, 1)) }")
    assert [table.heading for table in source.tables] == ["hist(work)", "count(comm)", "sum(work, f(cpu, 1))"]
    assert "if (!(work > 0))" in source.text
    assert source.tables[1].by_comm
    assert "(u64)(f(cpu, 1))" in source.text


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("", "a file ending in .c"),
        ("napi_poll { print(work) }", "an action"),
        ("napi_poll { hist() }", "hist"),
        ("napi_poll { hist(1, 2) }", "hist"),
        ("napi_poll { sum() }", "sum"),
        ("napi_poll { ; }", "at least one action"),
        ("nothing_such", "tracepoint of this kernel"),
        ("napi_poll hist(work)", "a file ending in .c"),
    ],
)
def test_what_has_not_the_form_is_refused(expression: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        compiled(expression)


@pytest.mark.parametrize(
    "opening",
    [
        "RAW_TRACEPOINT_PROBE(sys_enter)\n{",
        "TRACEPOINT_PROBE(net, napi_poll) {",
        "int raw_tracepoint__sys_enter(struct bpf_raw_tracepoint_args *ctx)\n{",
        "int kprobe__ip_rcv(struct pt_regs *ctx) {",
    ],
)
def test_a_users_probe_begins_with_the_filter_on_the_same_line(opening: str) -> None:
    source = f"BPF_HASH(t);\n{opening}\n\treturn 0;\n}}\n"
    told = filtered(source)
    assert f"{opening} if (!nomx_mine()) return 0;" in told
    assert told.count("\n") == source.count("\n"), "lines stay where they are, so that messages name the user's"


def test_functions_that_are_no_probes_are_left_alone() -> None:
    source = "static int helper(int a)\n{\n\treturn a;\n}\n"
    assert filtered(source) == source
