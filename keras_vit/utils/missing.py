"""One sentence, with the line that mends it, for an optional package that is not installed."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(package: str, purpose: str, extra: str) -> Iterator[None]:
    """Turns a failed import of `package` into a sentence that says what it was for and how to install it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'{purpose[0].upper()}{purpose[1:]} needs {package}: pip install "keras-vit[{extra}]" ({error}).'
        ) from error
