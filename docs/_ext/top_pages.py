"""The pages at the top of the checkout, as pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

TOP = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
INCLUDE = re.compile(r"^```\{include\} \.\./(\w+\.md)\n```$", re.MULTILINE)
LINK = re.compile(r"(\]\(|^\[[^]\n]+\]: )(?!https?:|#|mailto:)([^)\s]+)", re.MULTILINE)


def adjusted(link: re.Match[str]) -> str:
    """Return a link of the top as it is from docs/."""
    path = link[2]
    if path in PAGES:
        return link[1] + path.lower()
    return link[1] + (path.removeprefix("docs/") if path.startswith("docs/") else f"path:../{path}")


def include(_app: Sphinx, _docname: str, content: list[str]) -> None:
    """Put the pages where they are included."""
    content[0] = INCLUDE.sub(
        lambda found: LINK.sub(adjusted, (TOP / found[1]).read_text()), content[0]
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
