"""The pages at the top of the checkout, as pages of the documentation, and the index of all."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

TOP = Path(__file__).parents[2]
# pages in the index that a checkout may lack: benchmarks.md is made by bench.report
OPTIONAL = {"benchmarks"}
PAGES = {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
INCLUDE = re.compile(r"^```\{include\} \.\./(\w+\.md)\n```$", re.MULTILINE)
LINK = re.compile(r"(\]\(|^\[[^]\n]+\]: )(?!https?:|#|mailto:)([^)\s]+)", re.MULTILINE)


def adjusted(link: re.Match[str]) -> str:
    """Return a link of the top as it is from docs/."""
    path = link[2]
    if path in PAGES:
        return link[1] + path.lower()
    return link[1] + (path.removeprefix("docs/") if path.startswith("docs/") else f"path:../{path}")


def include(app: Sphinx, docname: str, content: list[str]) -> None:
    """Put the pages where they are included, and leave out of the index what is not there."""
    text = INCLUDE.sub(lambda found: LINK.sub(adjusted, (TOP / found[1]).read_text()), content[0])
    if docname == "index":
        missing = {name for name in OPTIONAL if not (TOP / "docs" / f"{name}.md").exists()}
        text = "\n".join(line for line in text.split("\n") if line not in missing)
    content[0] = text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
