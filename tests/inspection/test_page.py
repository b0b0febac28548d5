"""`keras-vit inspect`: the page, and the errors for images and models that do not fit."""

import base64
import io
import re
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.cli.main import main
from keras_vit.inspection.inspect_page import _spread, inspect_image
from tests.convnet import convnet

OF_TOKENS = ["Attention", "Attention rollout", "Attention distance", "Position embeddings"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), "uint8")
    Image.fromarray(pixels).save("photo.jpg")
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(pixels[..., 0]).convert("P").save("palette.png")
    return tmp_path


def vit(**settings):
    return keras_vit.ViT(
        **{"input_shape": (16, 24, 3), "patch_size": 8, "width": 12, "depth": 2, "num_heads": 2, "classes": 7}
        | settings
    )


def run(capsys, *arguments):
    code = main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def sections(page):
    """Return the content of each section by its heading."""
    parts = re.split(r"<h2>(.*?)</h2>", page)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def pictures(section):
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', section)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_the_page_of_a_vit(folder, capsys):
    model = vit()
    model.save("model.keras")
    code, out, err = run(capsys, "model.keras", "--image", "photo.jpg", "--like", "vit_b16")
    assert code == 0, err
    assert out == "inspect.html: open it in a browser\n"
    page = (folder / "inspect.html").read_text()
    found = sections(page)
    assert list(found) == ["Model", *OF_TOKENS, "Blocks", "Not shown"]
    for name in (*OF_TOKENS, "Blocks"):
        (picture,) = pictures(found[name])
        assert picture.width > 200 and len(np.unique(np.asarray(picture))) > 20, name
    assert "<dt>Pyramid</dt><dd>All feature maps of 'vit' have the same size" in found["Not shown"]
    assert f"{model.count_params():,}" in found["Model"] and "16 x 24 x 3" in found["Model"]
    assert "Weights: model.keras." in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page


@pytest.mark.parametrize(
    "like",
    [
        None,  # The statistics and the crop that the model carries.
        "vit_b16",
        "vit_b16.dino",
    ],
)
def test_the_predictions_are_those_for_the_image_as_preprocess_input_returns_it(like, folder):
    model = vit(name="vit_ti16.augreg_in21k")  # A name as that of a model with published weights.
    inspect_image(model, "photo.png", "page.html", like=like)
    images = keras_vit.preprocess_input(np.asarray(Image.open("photo.png"))[np.newaxis], model, name=like)
    scores = model.predict(images, verbose=0)[0]
    shown = re.findall(r"<strong>([\d.]+) %</strong><span>class (\d+)</span>", (folder / "page.html").read_text())
    best = np.argsort(-scores)[:5]
    assert [int(name) for _, name in shown] == list(best)
    np.testing.assert_allclose([float(value) for value, _ in shown], 100 * scores[best], atol=0.06)


def test_a_convolutional_network_has_a_pyramid_only(folder):
    convnet().save("net.keras")
    inspect_image(keras.models.load_model("net.keras"), "photo.jpg", like="vit_b16")
    found = sections((folder / "inspect.html").read_text())
    assert list(found) == ["Model", "Pyramid", "Blocks", "Not shown"]
    assert [name for name in found if pictures(found[name])] == ["Pyramid", "Blocks"]
    for name in OF_TOKENS:
        assert f"<dt>{name}</dt><dd>The model 'convnet' has no PatchEmbedding" in found["Not shown"]


def test_models_of_other_kinds(folder):
    inspect_image(vit(input_shape=(16, 16, 1), include_top=False), "palette.png", like="vit_b16")
    assert list(sections((folder / "inspect.html").read_text())) == ["Model", *OF_TOKENS, "Blocks", "Not shown"]
    inspect_image(keras_vit.fuse(vit(include_preprocessing=True, classifier_activation=None)), "palette.png")
    found = sections((folder / "inspect.html").read_text())
    assert list(found) == ["Model", "Not shown"] and found["Not shown"].count("<dt>") == 6


def test_weights_from_a_file(folder, capsys):
    vit(name="vit_ti16").save("model.keras")
    keras.models.load_model("model.keras").save_weights("other.weights.h5")
    code, _, err = run(capsys, "model.keras", "--image", "photo.jpg", "--weights", "other.weights.h5")
    assert code == 0, err
    assert "Weights: other.weights.h5." in (folder / "inspect.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["vit_b15", "--image", "photo.jpg"], "no model named 'vit_b15'"),
        (["model.keras", "--image", "none.jpg"], "no picture 'none.jpg'"),
        (["model.keras", "--image", "broken.jpg"], "'broken.jpg' can't be decoded: "),
        (["model.keras", "--image", "cut.png"], "'cut.png' can't be decoded: image file is truncated"),
        (["model.keras", "--image", "model.keras"], "'model.keras' is empty or not a picture"),
        (["net.keras", "--image", "photo.jpg"], "keras_vit did not build it"),
        (["model.keras", "--image", "photo.jpg", "--like", "vit_b15"], "no model named 'vit_b15'"),
        (["model.keras", "--image", "photo.jpg", "--like", "vit_b16.dinno"], "dinno"),
        (["model.keras", "--image", "photo.jpg", "--output", "page.txt"], "must end in .html; received 'page.txt'"),
        (["model.keras", "--image", "photo.jpg", "--weights", "none.npz"], "none.npz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_for_what_goes_wrong(arguments, sentence, folder, capsys):
    vit().save("model.keras")
    convnet().save("net.keras")
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:300])
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:3000])
    (folder / "inspect.html").write_text("old")
    before = {path.name for path in folder.iterdir()}
    code, _, err = run(capsys, *arguments)
    assert code == 1 and err.startswith("keras-vit: ") and sentence in err and "Traceback" not in err
    assert {path.name for path in folder.iterdir()} == before
    assert (folder / "inspect.html").read_text() == "old"


def test_other_errors_are_raised(folder, monkeypatch):
    def fails(model):
        raise ValueError("a mistake")

    monkeypatch.setattr("keras_vit.inspection.inspect_page.position_similarity", fails)
    with pytest.raises(ValueError, match="a mistake"):
        inspect_image(vit(), "photo.jpg", like="vit_b16")
    assert not (folder / "inspect.html").exists()


def test_pillow_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'needs pillow: pip install "keras-vit\[inspect\]"'):
        inspect_image(vit(), "photo.jpg", like="vit_b16")


def test_many_blocks_are_sampled_evenly():
    assert list(_spread(dict.fromkeys(range(7)))) == list(range(7))
    shown = list(_spread(dict.fromkeys(range(24))))
    assert len(shown) == 12 and shown[0] == 0 and shown[-1] == 23 and set(np.diff(shown)) <= {2, 3}
