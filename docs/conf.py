"""Sphinx configuration: the documentation site; a reference that leads nowhere fails the build (`./dev docs`)."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from reference_pages import write_pages

from nomx.version import VERSION

project = "nomx"
author = "the nomx authors"
copyright = "the nomx authors, Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = VERSION

extensions = ["myst_parser"]
exclude_patterns = ["_build", "reference/generated"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"nomx {release}"


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir, "reference", "generated")))
