"""Settings of Sphinx, which makes the site of docs/: `make docs`."""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_vit

sys.path.insert(0, str(Path(__file__).parent))
import reference

project = "keras_vit"
author = "the keras_vit authors"
copyright = "the keras_vit authors, Apache License 2.0"
release = version = keras_vit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["reference/generated/README.md"]
html_theme = "furo"
html_title = f"keras_vit {release}"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

# `name` in a docstring becomes a link if the name has an entry in the reference, and code in any case.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

linkcheck_timeout = 20
linkcheck_anchors = False


def markdown_docstring(app, what, name, obj, options, lines):
    """Turn what a docstring has of Markdown into what Sphinx reads: its ```python blocks, and plain * and |."""
    out, inside = [], False
    for line in lines:
        fence = re.match(r"(\s*)```(\w*)\s*$", line)
        if fence and not inside:
            out += ["", f"{fence[1]}.. code-block:: {fence[2] or 'text'}", ""]
        elif fence:
            out.append("")
        elif inside:
            out.append(f"    {line}" if line.strip() else line)
        else:
            parts = line.split("`")  # Every second part is code.
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            out.append("`".join(parts))
        inside = inside != bool(fence)
    lines[:] = out


def setup(app):
    """Write the pages of the reference before Sphinx looks for its sources."""
    app.connect("autodoc-process-docstring", markdown_docstring, priority=100)
    app.connect("config-inited", lambda app, config: reference.write(Path(app.srcdir) / "reference" / "generated"))
