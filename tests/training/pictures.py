"""Small pictures with something to see, and files of them."""

import numpy as np
from PIL import Image


def picture(seed, width=40, height=30):
    """Smooth colors, (height, width, 3), uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def write_folder(folder, classes=3, images=6, suffix=".png"):
    """A folder a class, with pictures whose seed is their number; gives the paths by seed."""
    paths = []
    for number in range(classes * images):
        path = folder / f"class_{number % classes}" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, 40 + number, 30 + number)).save(path, quality=95)
        paths.append(path)
    return paths
