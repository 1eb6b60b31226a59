"""The generated part of the reference: each module's own words and fields as Markdown, and the command line's manual.

Docstrings are written as Markdown, and attributes are explained by the string below them; both are
read from the source, so that the reference says what the code says.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

MODULES = ("nomx.api.messages", "nomx.api.lease", "nomx.api.counters", "nomx.errors")


def write_pages(directory: Path) -> None:
    """Write one page a module, and the command line's, into *directory*; a page that has not changed is left alone."""
    from nomx_cli.main import cli
    from nomx_cli.manual import markdown

    pages = {name: "\n".join(module_page(name)) for name in MODULES} | {"cli": markdown(cli)}
    directory.mkdir(exist_ok=True)
    for name, text in pages.items():
        page = directory / f"{name}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def module_page(name: str) -> Iterator[str]:
    """Yield the lines of a module's page: its docstring, its constants, its classes and functions, in source order."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    yield from (ast.get_docstring(tree) or "", "")
    for node, told in _with_explanations(tree.body):
        if isinstance(node, ast.ClassDef):
            yield from _class(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from (f"## `{node.name}({ast.unparse(node.args)})`", "", ast.get_docstring(node) or "", "")
        elif told and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield from (f"## `{node.targets[0].id}`", "", told, "", f"`{ast.unparse(node.value)}`", "")


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield from (f"## `{node.name}`", "", ast.get_docstring(node) or "", "")
    fields = [(each, told) for each, told in _with_explanations(node.body) if isinstance(each, ast.AnnAssign)]
    for each, _ in fields:
        if ast.unparse(each.target) == "template" and isinstance(each.value, ast.Constant):
            yield from (f"Message: `{each.value.value}`", "")
    plain = [(each, told) for each, told in fields if "ClassVar" not in ast.unparse(each.annotation)]
    if plain:
        yield from ("| field | type | default | |", "|---|---|---|---|")
        for each, told in plain:
            default = f"`{_cell(ast.unparse(each.value))}`" if each.value else ""
            kind = _cell(ast.unparse(each.annotation))
            yield f"| `{ast.unparse(each.target)}` | `{kind}` | {default} | {_cell(told)} |"
        yield ""


def _with_explanations(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Pair each statement with the string that stands right below it, if one does."""
    for node, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            yield node, inspect.cleandoc(below.value.value)
        else:
            yield node, ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
