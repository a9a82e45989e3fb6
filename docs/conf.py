"""How Sphinx makes a site of this folder: `make docs`.

The pages are Markdown that reads as well in the repository. Links to its other files lead there
from the site; CONTRIBUTING, DIFFERENCES and CHANGELOG are pages of the site, too.
"""

import pathlib
import re
import sys
import tomllib

from sphinx import addnodes

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import uring_loop  # noqa: E402

project = "uring_loop"
author = "the uring_loop authors"
copyright = author
version = release = uring_loop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
# What stands between single backquotes in a docstring is code.
default_role = "literal"
autodoc_typehints = "signature"
# Code keeps its quotes.
smartquotes = False
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"uring_loop {release}"
html_show_copyright = False
html_show_sphinx = False
# Nothing is fetched from anywhere while a page is read.
html_theme_options = {"top_of_page_buttons": []}

# Pages of the site that are files of the repository's root.
OF_THE_ROOT = {name: f"{name.upper()}.md" for name in ("changelog", "contributing", "differences")}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")

with open(ROOT / "pyproject.toml", "rb") as _file:
    REPOSITORY = tomllib.load(_file)["project"]["urls"]["Repository"]


def linked(text: str, folder: pathlib.Path, docs: pathlib.Path) -> str:
    """The page with links as the site has them; a link to no file is an error."""

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        path = (folder / target).resolve()
        if not path.exists():
            raise FileNotFoundError(f"a link leads to {target}, which is not in {folder}")
        place = path.relative_to(ROOT)
        for name, origin in OF_THE_ROOT.items():
            if str(place) == origin:
                return f"[{label}]({name}.md{anchor})"
        if path.parent == docs and path.suffix == ".md":
            return f"[{label}]({path.name}{anchor})"
        kind = "tree" if path.is_dir() else "blob"
        return f"[{label}]({REPOSITORY}/{kind}/main/{place}{anchor})"

    return LINK.sub(link, text)


def read(app, docname, content):
    docs = pathlib.Path(app.srcdir)
    folder = docs
    if docname in OF_THE_ROOT:
        path = ROOT / OF_THE_ROOT[docname]
        app.env.note_dependency(str(path))
        content[0] = path.read_text(encoding="utf-8")
        folder = ROOT
    content[0] = linked(content[0], folder, docs)


# ---- docstrings ------------------------------------------------------------------------

# `name: what it is`, or several names; deeper ones belong to the one above.
ITEM = re.compile(r"(\s*)([\w.%`]+(?:, [\w.%`]+)*): (\S.*)")


def docstring(app, what, name, obj, options, lines):
    """Our docstrings list arguments and keys as `name: meaning`, a line or more each."""
    found, depths = [], []
    for line in lines:
        item = ITEM.fullmatch(line)
        # A colon in the middle of a sentence is none of an item's.
        begins = not found or not found[-1].strip() or found[-1].rstrip()[-1] in ".:"
        if item is not None and begins and not item[2][0].isupper():
            indent = len(item[1])
            while depths and depths[-1] >= indent:
                depths.pop()
            depths.append(indent)
            margin = "  " * (len(depths) - 1)
            if not found or found[-1].strip():
                found.append("")
            found.append(f"{margin}- `{item[2].replace('`', '')}`: {item[3]}")
        elif not line.strip():
            depths.clear()
            found.append("")
        elif depths:
            found.append("  " * len(depths) + line.strip())
        else:
            found.append(line)
    lines[:] = found


def short_names(app, doctree):
    """What is asked for by its public function only has a name without our modules."""
    for node in list(doctree.findall(addnodes.desc_addname)):
        if "_internal" in node.astext():
            node.parent.remove(node)


def setup(app):
    app.connect("doctree-read", short_names)
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
