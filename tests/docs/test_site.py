"""The site builds without a warning, with a page for each one in docs/ and an entry for each public name."""

import html
import re
import subprocess
import sys

import keras_vit
from keras_vit import edge, training
from tests.docs.pages import PAGES, ROOT


def test_the_site_builds_and_has_all_pages_and_names(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-d", tmp_path / "doctrees"]
    result = subprocess.run([*command, ROOT / "docs", tmp_path / "html"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-5000:]
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            assert (tmp_path / "html" / page.relative_to(ROOT / "docs").with_suffix(".html")).exists(), page
    generated = (tmp_path / "html" / "reference" / "generated").glob("*.html")
    reference = html.unescape("".join(page.read_text() for page in generated))
    entries = set(re.findall(r'<dt class="sig [^>]*id="([\w.]+)"', reference))
    for package in (keras_vit, edge, training):
        public = {name for name in package.__all__ if callable(getattr(package, name))}
        missing = {f"{package.__name__}.{name}" for name in public} - entries
        # Variants have a row in a table, and other names of a thing are where it is defined.
        missing = {name for name in missing if name.rpartition(".")[2] not in _variants()}
        assert missing <= {"keras_vit.training.Statistics"}


def _variants():
    from keras_vit.models.families import families

    return {known.function_name for family in families().values() for known in family.variants}
