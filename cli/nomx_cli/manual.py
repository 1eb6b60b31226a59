"""The manual, from the commands themselves: one walk over the click tree, written as a man page or as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from nomx_cli.exits import MEANINGS

ENVIRONMENT = {
    "NOMX_SOCKET": "the daemon's control socket, as --socket",
    "NOMX_INSTANCE": "the daemon's name, from which the default socket and every kernel object's name derive",
    "NOMX_PREFIX": "addresses of a daemon that nomx run starts itself, such as 10.77.0.0/16",
    "NOMX_GRANT": "set for an application: the number of the descriptor that holds its grant",
    "NUMBA_DISABLE_JIT": "1 runs handlers as plain Python, for a debugger; slow",
}
FILES = {
    "/run/nomx/nomxd.sock": "the control socket of the daemon named nomx",
    "/run/nomx/journal.sqlite": "what the daemon knows of its leases, read again when it starts",
    "/run/netns/nomx": "the switch namespace, where the device units are",
}


@dataclass(frozen=True)
class Entry:
    """One command: its full *name*, *usage* after the name, help as *paragraphs*, and (option, help) pairs.

    The options that every command has, -j and --help, are told at the top only.
    """

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    """One that begins with a backspace, click's mark, is kept line by line."""
    options: tuple[tuple[str, str], ...]


def entries(command: click.Command, name: str = "nomx", parent: click.Context | None = None) -> Iterator[Entry]:
    """Walk the tree from *command* on: each command, then those below it."""
    own_name = name.rsplit(maxsplit=1)[-1]
    with click.Context(command, info_name=own_name, parent=parent, **command.context_settings) as ctx:
        yield Entry(
            name, " ".join(command.collect_usage_pieces(ctx)), _paragraphs(command.help), _options(command, ctx)
        )
        if isinstance(command, click.Group):
            for below in command.list_commands(ctx):
                child = command.get_command(ctx, below)
                assert child is not None
                yield from entries(child, f"{name} {below}", ctx)


def _paragraphs(text: str | None) -> tuple[str, ...]:
    return tuple(inspect.cleandoc(text or "").split("\n\n"))


def _options(command: click.Command, ctx: click.Context) -> tuple[tuple[str, str], ...]:
    everywhere = {"json", "help"} if ctx.parent else set()
    chosen = (
        each for each in command.get_params(ctx) if isinstance(each, click.Option) and each.name not in everywhere
    )
    records = (option.get_help_record(ctx) for option in chosen)
    return tuple(record for record in records if record is not None)


def man_page(command: click.Command, version: str) -> str:
    """Write the manual as one page in the man macros; source: man-pages(7)."""
    pages = list(entries(command))
    top = pages[0]
    lines = [
        f'.TH NOMX 1 "" "nomx {version}" "User Commands"',
        ".SH NAME",
        r"nomx \- " + _roff("run applications that drive their own network devices"),
        ".SH SYNOPSIS",
        f".B nomx\n{_roff(top.usage)}",
        ".SH DESCRIPTION",
        *_roff_paragraphs(top.paragraphs),
        ".SH OPTIONS",
        *_roff_definitions(top.options),
        ".SH COMMANDS",
    ]
    for page in pages[1:]:
        lines += [f'.SS "{page.name} {_roff(page.usage)}"', *_roff_paragraphs(page.paragraphs)]
        lines += _roff_definitions(page.options)
    for heading, definitions in _sections():
        lines += [f".SH {heading.upper()}", *_roff_definitions(definitions)]
    return "\n".join([*lines, ""])


def _sections() -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    yield "Exit status", tuple((str(code), meaning) for code, meaning in MEANINGS.items())
    yield "Environment", tuple(ENVIRONMENT.items())
    yield "Files", tuple(FILES.items())


def _roff(text: str) -> str:
    """Escape *text* for roff: backslashes, hyphens, and a control character at the start of a line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("`", "")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def _roff_paragraphs(paragraphs: tuple[str, ...]) -> Iterator[str]:
    for paragraph in paragraphs:
        if paragraph.startswith("\b"):
            yield from (".PP", ".nf", _roff(paragraph.lstrip("\b\n")), ".fi")
        else:
            yield from (".PP", _roff(paragraph))


def _roff_definitions(definitions: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in definitions:
        yield from (".TP", f".B {_roff(term)}", _roff(text))


def markdown(command: click.Command) -> str:
    """Write the manual as Markdown, one heading a command, for the documentation."""
    lines: list[str] = []
    for page in entries(command):
        lines += [f"{'#' * len(page.name.split())} {page.name}", ""]
        lines += ["```", f"{page.name} {page.usage}", "```", "", *_markdown_paragraphs(page.paragraphs)]
        lines += _markdown_definitions(page.options)
    for heading, definitions in _sections():
        lines += [f"# {heading}", "", *_markdown_definitions(definitions)]
    return "\n".join(lines)


def _markdown_paragraphs(paragraphs: tuple[str, ...]) -> Iterator[str]:
    for paragraph in paragraphs:
        if paragraph.startswith("\b"):
            yield from ("```", paragraph.lstrip("\b\n"), "```", "")
        else:
            yield from (paragraph, "")


def _markdown_definitions(definitions: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in definitions:
        yield from (f"`{term}`", f": {text}", "")
