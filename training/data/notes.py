"""Tell the user how data was understood, on standard error and once in a process."""

import functools
import sys
from collections.abc import Sequence


@functools.cache
def note(text: str) -> None:
    """Print a line to standard error, unless the same line was printed before."""
    print(f"keras_vit: {text}", file=sys.stderr, flush=True)


def examples(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names as a list for a sentence, such as "a, b, c and 7 more"."""
    listed = ", ".join(names[:shown])
    return listed if len(names) <= shown else f"{listed} and {len(names) - shown} more"
