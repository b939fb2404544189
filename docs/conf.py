"""How Sphinx makes the pages: `sphinx-build -W --keep-going -n docs build/html`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pyns"
copyright = "the authors of pyns"  # noqa: A001  Sphinx's name
release = version = version_of("pyns-linux")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "docstrings",
    "step_tables",
    "top_pages",
]
exclude_patterns = ["_ext"]
nitpicky = True

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "pyns"
html_show_sphinx = False
html_static_path: list[str] = []
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2e7d32", "color-brand-content": "#1f6f8b"},
    "dark_css_variables": {"color-brand-primary": "#7fc98b", "color-brand-content": "#6fc3df"},
}
