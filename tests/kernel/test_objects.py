"""The BPF objects: every compiler that a user may have makes them, without a warning, and the kernel takes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hatch_build
from nomx.linux.bpf import Object

SOURCES = sorted(hatch_build.SOURCES.glob("*.bpf.c"))
COMPILERS = {
    "ziglang" if "ziglang" in command else Path(command[0]).name: command for command in hatch_build.compilers()
}


@pytest.mark.root
@pytest.mark.feature("bpf")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name.partition(".")[0])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_an_object_compiles_and_loads(
    compiler: str, source: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "zig"))
    target = tmp_path_factory.mktemp("objects") / "object.o"
    hatch_build.compile_one(source, target, *COMPILERS[compiler], "-Werror")
    with Object(target) as loaded:
        assert loaded.load().programs


def test_a_program_that_does_not_compile_is_told_with_the_compilers_words(tmp_path: Path) -> None:
    source = tmp_path / "wrong.bpf.c"
    source.write_text("int nomx_wrong(void) { return nothing; }\n")
    with pytest.raises(hatch_build.CompileError, match="undeclared identifier 'nothing'"):
        hatch_build.compile_one(source, tmp_path / "wrong.bpf.o", *next(hatch_build.compilers()))
    assert os.listdir(tmp_path) == [source.name]
