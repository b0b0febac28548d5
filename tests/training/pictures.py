"""Create small pictures with smooth colors, and folders of image files."""

import numpy as np
from PIL import Image


def picture(seed, width=40, height=30):
    """Return a picture with smooth colors: uint8 of shape (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def write_folder(folder, classes=3, images=6, suffix=".png"):
    """Write one folder of pictures per class, and return the paths. The index of a path is the seed of its picture."""
    paths = []
    for number in range(classes * images):
        path = folder / f"class_{number % classes}" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, 40 + number, 30 + number)).save(path, quality=95)
        paths.append(path)
    return paths
