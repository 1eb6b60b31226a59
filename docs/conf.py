"""Sphinx configuration: the documentation site; a reference that leads nowhere fails the build (`./dev docs`)."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))

project = "nomx"
author = "the nomx authors"
copyright = "the nomx authors, Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = version_of("nomx")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"  # docstrings write `names` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False, "undoc-members": True}
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"nomx {release}"
man_pages: list[tuple[str, str, str, list[str], int]] = []  # `nomx man` writes it, from the same source as reference/cli


def write_command_reference(app: Sphinx) -> None:
    """Write reference/cli.md from the click commands, if they have changed since the last build."""
    from nomx_cli.main import cli
    from nomx_cli.manual import markdown

    page, text = Path(app.srcdir, "reference", "cli.md"), markdown(cli)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def setup(app: Sphinx) -> None:
    """Register what this site adds to Sphinx."""
    app.connect("builder-inited", write_command_reference)
