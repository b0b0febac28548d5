"""The pages of the documentation, and the blocks of code in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/training/*.md"), ROOT / "CONTRIBUTING.md"])

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        language: The word after the fence. Blocks of "python" and "sh" run as they are; "console" blocks do not.
        code: Its lines.
        line: Number of its first line in the file.
    """

    language: str
    code: str
    line: int


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of a page in one language, in order."""
    text = page.read_text()
    return [
        Block(found[1], found[2], text[: found.start(2)].count("\n") + 1)
        for found in _BLOCK.finditer(text)
        if found[1] == language
    ]


def pages_with(language: str) -> list[Path]:
    """Return the pages that have blocks in a language."""
    return [page for page in PAGES if blocks(page, language)]
