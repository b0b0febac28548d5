"""A clear error message for an optional package that is not installed."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(package: str, purpose: str, extra: str) -> Iterator[None]:
    """Raise an `ImportError` that says how to install a package if importing it in the block fails.

    Args:
        package: The name of the package.
        purpose: What needs the package, such as "exporting int8 files".
        extra: The extra of keras-vit that contains the package.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'{purpose[0].upper()}{purpose[1:]} needs {package}: pip install "keras-vit[{extra}]" ({error}).'
        ) from error
