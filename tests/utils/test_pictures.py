"""Pictures of every mode, depth, orientation and format become the same RGB, wherever they are opened."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

import keras_vit
from keras_vit import training
from keras_vit.utils.pictures import open_picture

GRAY = np.linspace(0, 255, 12).astype("uint8").reshape(3, 4)
RGB = np.repeat(GRAY[..., None], 3, axis=-1)
COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], "uint8")


def lab():
    srgb, target = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.fromarray(RGB), srgb, target, outputMode="LAB")


SAME = {
    "L": Image.fromarray(GRAY),
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(RGB).convert("RGBA"),
    "RGBa": Image.fromarray(RGB).convert("RGBA").convert("RGBa"),
    "LA": Image.fromarray(GRAY).convert("LA"),
    "La": Image.fromarray(GRAY).convert("LA").convert("La"),
    "P": Image.fromarray(GRAY).convert("P"),
    "PA": Image.fromarray(GRAY).convert("P").convert("PA"),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
    "YCbCr": Image.fromarray(RGB).convert("YCbCr"),
    "HSV": Image.fromarray(RGB).convert("HSV"),
    "LAB": lab(),
    "I;16": Image.fromarray(GRAY.astype("uint16") * 257),
    "I;16B": Image.frombytes("I;16B", (4, 3), (GRAY.astype(">u2") * 257).tobytes()),
    "I": Image.fromarray(GRAY.astype("int32") * 257),
    "F": Image.fromarray(GRAY.astype("float32") / 255),
    "F to 255": Image.fromarray(GRAY.astype("float32")),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", SAME)
def test_every_mode_becomes_the_same_picture(mode, channels):
    assert SAME[mode].mode == mode.split(" ")[0]
    opened = np.asarray(open_picture(SAME[mode], channels)).astype(int)
    np.testing.assert_allclose(opened, RGB if channels == 3 else GRAY, atol=1)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("mode", SAME)
def test_every_mode_that_a_lossless_file_can_have(mode, suffix):
    file = io.BytesIO()
    try:
        SAME[mode].save(file, suffix)
    except (OSError, KeyError):
        assert (mode, suffix) not in {(kind, "png") for kind in ("L", "RGB", "RGBA", "LA", "P", "I;16")}
        return
    np.testing.assert_allclose(np.asarray(open_picture(file.getvalue())).astype(int), RGB, atol=1)


def test_pictures_of_one_bit_are_black_and_white():
    assert np.unique(np.asarray(open_picture(Image.fromarray(GRAY > 100)))).tolist() == [0, 255]


def test_transparent_parts_become_white():
    pixels = np.dstack([COLORS, np.array([[255, 0], [128, 255]], "uint8")])
    expected = np.array([[[255, 0, 0], [255, 255, 255]], [[127, 127, 255], [255, 255, 0]]])
    palette = Image.fromarray(COLORS).quantize(4)
    palette.info["transparency"] = palette.getpixel((1, 0))  # Green.
    files = {}
    for name, image in (("rgba", Image.fromarray(pixels)), ("palette", palette)):
        files[name] = io.BytesIO()
        image.save(files[name], "png")
    np.testing.assert_allclose(np.asarray(open_picture(files["rgba"].getvalue())).astype(int), expected, atol=1)
    assert np.asarray(open_picture(files["palette"].getvalue()))[0, 1].tolist() == [255, 255, 255]
    gray = Image.fromarray(np.dstack([GRAY, np.zeros_like(GRAY)]), "LA")
    assert np.unique(np.asarray(open_picture(gray, 1))).tolist() == [255]


UPRIGHT = np.zeros((24, 40, 3), "uint8")
UPRIGHT[:12, :20], UPRIGHT[:12, 20:], UPRIGHT[12:, :20] = 255, 120, (200, 40, 40)
# By EXIF orientation: how the camera stored the picture (EXIF 2.32, section 4.6.4, "row 0 is the visual ...").
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_orientation_of_the_camera_is_applied(orientation, suffix):
    tags, file = Image.Exif(), io.BytesIO()
    tags[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(file, suffix, exif=tags)
    opened = np.asarray(open_picture(file.getvalue())).astype(int)
    assert opened.shape == UPRIGHT.shape and np.abs(opened - UPRIGHT).mean() < 6


def test_the_first_frame_of_an_animation():
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((8, 8, 3), level, "uint8")) for level in (200, 20)]
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:])
    assert np.unique(np.asarray(open_picture(file.getvalue()))).tolist() == [200]


def test_sentences_for_pictures_that_cannot_be_opened(tmp_path):
    sound = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), "uint8")).save(sound, "jpeg")
    contents = {
        "empty.png": (b"", "'.*empty.png' is empty or not a picture"),
        "text.jpg": (b"no picture", "'.*text.jpg' is empty or not a picture"),
        "cut.jpg": (sound.getvalue()[:-500], "'.*cut.jpg' can't be decoded: image file is truncated"),
        "phone.heic": (b"\0\0\0\x18ftypheic", "'.*phone.heic' is.*pillow-heif"),
        "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not run"),
    }
    for name, (content, sentence) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            open_picture(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"no picture '.*none\.png'"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ValueError, match="from -1 to 3"):
        open_picture(Image.fromarray(np.array([[-1, 3]], "float32")))
    with pytest.raises(ValueError, match="from 0 to 70000"):
        open_picture(Image.fromarray(np.array([[0, 70000]], "int32")))


@pytest.fixture(scope="module")
def model():
    return keras_vit.ViT(classes=2, input_shape=(32, 32, 3), patch_size=16, width=16, depth=1, num_heads=2)


def phone_pictures(folder):
    """Write pictures as phones, scanners and drawing programs do, and return the colors that people see."""
    rng = np.random.default_rng(0)
    seen = np.kron(rng.integers(0, 256, (4, 4, 3), dtype="uint8"), np.ones((8, 8, 1), "uint8"))
    tags = Image.Exif()
    tags[0x0112] = 6
    kinds = {
        "rotated.png": (Image.fromarray(np.ascontiguousarray(np.rot90(seen))), {"exif": tags}),
        "alpha.png": (Image.fromarray(seen).convert("RGBA"), {}),
        "palette.png": (Image.fromarray(seen).quantize(16), {}),
        "print.tif": (Image.fromarray(seen).convert("CMYK"), {}),
    }
    for name, (image, settings) in kinds.items():
        (folder / "a").mkdir(exist_ok=True)
        image.save(folder / "a" / name, **settings)
    return seen, [folder / "a" / name for name in kinds]


def test_training_and_preprocess_input_see_the_same_picture(model, tmp_path):
    seen, paths = phone_pictures(tmp_path)
    rows = "\n".join(f"a/{path.name},a" for path in paths)
    (tmp_path / "pictures.csv").write_text(rows)
    data = training.csv_images(
        tmp_path / "pictures.csv",
        tmp_path / "pictures.csv",
        image_size=32,
        batch_size=4,
        augmentation=None,
        statistics=None,
        evaluation=training.CenterCrop(1.0),
    )
    in_training = next(iter(data.validation))[0].numpy()
    for image in in_training:
        np.testing.assert_allclose(image, seen, atol=2)
    expected = keras_vit.preprocess_input(seen, model)
    for name, given in (
        ("paths", paths),
        ("strings", list(map(str, paths))),
        ("Pillow images", list(map(Image.open, paths))),
    ):
        prepared = keras_vit.preprocess_input(given, model)
        assert prepared.shape == (4, 32, 32, 3), name
        np.testing.assert_allclose(prepared, np.stack([expected] * 4), atol=0.03, err_msg=name)
    one = keras_vit.preprocess_input(paths[0], model)
    np.testing.assert_array_equal(one, keras_vit.preprocess_input(Image.open(paths[0]), model))
    assert one.shape == (32, 32, 3)


def test_lists_and_empty_batches(model):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 40, 3), "uint8") for height in (30, 50)]
    together = keras_vit.preprocess_input(images, model)
    for image, prepared in zip(images, together, strict=True):
        np.testing.assert_array_equal(prepared, keras_vit.preprocess_input(image, model))
    for nothing in ([], (), np.zeros((0, 20, 20, 3), "uint8")):
        empty = keras_vit.preprocess_input(nothing, model)
        assert empty.shape == (0, 32, 32, 3) and empty.dtype == np.float32


# The XYZ coordinates of the primaries in columns, adapted to D50 as in color profiles: Display P3's and sRGB's.
P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7142]])


def color_profile(primaries, gamma, space=b"RGB "):
    """Return a color profile as in version 2.4 of the ICC's specification."""

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    text = b"a display\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz((0.9642, 1, 0.8249)),
        **{name + b"XYZ": xyz(column) for name, column in zip((b"r", b"g", b"b"), primaries.T, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", start + len(data), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    header += bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249))) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + data


PHONE = color_profile(P3, 2.2)
MUTED = np.array([[[180, 90, 70], [90, 160, 80]], [[70, 80, 170], [128, 128, 128]]], "uint8")


def as_srgb(pixels):
    """Return the sRGB pixels for those of a display with the profile `PHONE`."""
    linear = (pixels / 255) ** 2.2 @ P3.T @ np.linalg.inv(SRGB).T
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "webp"])
def test_a_color_profile_is_converted_to_srgb(suffix):
    pixels = MUTED.repeat(16, 0).repeat(16, 1)
    file = io.BytesIO()
    settings = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(pixels).save(file, suffix, icc_profile=PHONE, **settings)
    opened = np.asarray(open_picture(file.getvalue())).astype(int)
    np.testing.assert_allclose(opened, as_srgb(pixels), atol=3)
    assert np.abs(opened - pixels.astype(int)).max() > 10


def test_a_color_profile_keeps_what_is_transparent_and_the_orientation():
    rgba = np.dstack([MUTED, np.array([[255, 0], [255, 255]], "uint8")])
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # Upside down.
    Image.fromarray(rgba).save(file, "png", icc_profile=PHONE, exif=exif)
    expected = as_srgb(MUTED)
    expected[0, 1] = 255
    np.testing.assert_allclose(np.asarray(open_picture(file.getvalue())), expected[::-1, ::-1], atol=2)
    palette = Image.fromarray(MUTED).quantize(4)
    palette.info["transparency"] = palette.getpixel((1, 0))
    file = io.BytesIO()
    palette.save(file, "png", icc_profile=PHONE)
    np.testing.assert_allclose(np.asarray(open_picture(file.getvalue())), expected, atol=4)


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        b"no profile",
        PHONE[:200],
        color_profile(P3, 2.2, b"CMYK"),
    ],
    ids=["sRGB", "none", "damaged", "of another color space"],
)
def test_other_profiles_leave_the_pixels(profile):
    file = io.BytesIO()
    Image.fromarray(MUTED).save(file, "png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_picture(file.getvalue())), MUTED)
