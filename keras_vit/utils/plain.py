"""Numbers of NumPy as Python's own, which every check and file format knows."""

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a value in which NumPy's numbers and booleans are Python's, also within tuples and lists."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value
