"""Open pictures: the only place that decodes image files, so that a picture looks the same everywhere."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from keras_vit.utils.missing import needs

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # The EXIF tag of how the camera was held.
_UPRIGHT = {  # The transpose operation that turns a picture with this orientation upright.
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_MODES = {1: "L", 3: "RGB"}
# The modes whose pixels a color profile describes, by the profile's color space. The others are converted first.
_PROFILED_MODES = {"RGB ": ("RGB", "RGBA"), "CMYK": ("CMYK",), "GRAY": ("L",)}
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "PA")


def open_picture(source: str | os.PathLike | bytes | BinaryIO | Image.Image, channels: int = 3) -> Image.Image:
    """Decode a picture completely, turn it upright, and convert it to 8 bits and the given number of channels.

    - The EXIF orientation is applied.
    - Colors are converted to sRGB if the picture has another color profile, such as the Display P3 of many phones. A
      profile that is damaged, or for another color space than that of the picture, is ignored.
    - Transparent parts become white.
    - 16-bit grayscale is scaled to 8 bits. Pictures of 32-bit integers (Pillow's mode "I") are taken for 16-bit ones,
      since this is what Pillow stores in them. Floats (mode "F") must be in [0, 1], or otherwise in [0, 255].
    - Palettes, 1-bit pictures, CMYK and all other modes are converted by Pillow.
    - Of an animation, the first frame is used.

    Args:
        source: The path of an image file, the content of a file, an open binary file, or a Pillow image.
        channels: 3 for RGB, or 1 for grayscale.

    Returns:
        A Pillow image of mode "RGB" or "L".

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file can't be read.
        ValueError: The file is damaged or is not a picture that Pillow reads, or its values are out of range. The
            message names the file.
        ImportError: Pillow is not installed.
    """
    with needs("pillow", "reading pictures", "inspect"):
        from PIL import Image, UnidentifiedImageError
    if channels not in _MODES:
        raise ValueError(f"A picture has 1 or 3 channels; received channels={channels}.")
    name = "The picture"
    if isinstance(source, (str, os.PathLike)):
        name = repr(os.fspath(source))
        if not os.path.isfile(source):
            raise FileNotFoundError(f"There is no picture {name}.")
        with open(source, "rb") as file:
            source = file.read()
    elif path := getattr(source, "filename", ""):  # Pillow knows the path of an image that it opened.
        name = repr(path)
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        if image.format == "EPS":
            raise ValueError("EPS files are programs, which are not run")
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        image = _converted(image, channels)
        return image if upright is None else image.transpose(Image.Transpose[upright])
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is empty or not a picture of a format that Pillow reads.{_hint(name)}") from error
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # The exception depends on the format and on where the file is damaged.
        raise ValueError(f"{name} can't be decoded: {error}.") from error


def pictures_in(folder: str | os.PathLike) -> list[str]:
    """Return the paths of all files in a folder and its subfolders that have the ending of a picture, sorted.

    Hidden files are left out.
    """
    with needs("pillow", "reading pictures", "inspect"):
        from PIL import Image
    suffixes = tuple(Image.registered_extensions())
    return sorted(
        os.path.join(place, file)
        for place, _, files in os.walk(os.fspath(folder))
        for file in files
        if file.lower().endswith(suffixes) and not file.startswith(".")
    )


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # Some programs write damaged EXIF data into sound pictures.
        return None


def _converted(image, channels):
    from PIL import Image

    if image.mode in ("La", "LAB"):
        image = _through_another_mode(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.info.get("icc_profile"):
        image = _to_srgb(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(_MODES[channels])


def _through_another_mode(image):
    """Convert an image of a mode that Pillow converts to only one other mode."""
    from PIL import ImageCms

    if image.mode == "La":
        return image.convert("LA")
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")


def _to_srgb(image):
    """Convert an image with a color profile to sRGB, with its alpha channel as it is."""
    from PIL import ImageCms

    if "transparency" in image.info or image.mode == "PA":
        image = image.convert("RGBA")  # The transparent color is not known after the conversion.
    elif image.mode == "P":
        image = image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        fits = image.mode in _PROFILED_MODES.get(profile.profile.xcolor_space, ())
        if not fits or "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):  # Some programs write damaged profiles into sound pictures.
        return image


def _to_8_bits(image):
    from PIL import Image

    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 255):
            raise ValueError(f"its values must be in [0, 1] or [0, 255], but they are from {low:g} to {high:g}")
        scaled = values * (255 if high <= 1 else 1)
    else:
        if not (low >= 0 and high <= 65535):
            raise ValueError(f"its values must be those of 16 bits, 0 to 65535, but they are from {low} to {high}")
        scaled = values / 257
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _hint(name):
    if name.lower().endswith((".heic'", ".heif'")):
        return " For HEIC, install pillow-heif and call pillow_heif.register_heif_opener()."
    return ""
