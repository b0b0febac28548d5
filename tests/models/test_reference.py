"""Every model against its reference implementation, with weights that go through the loader."""

import json
from pathlib import Path

import numpy as np
import pytest

import keras_vit
from tests.models.cases import families, forms_of
from tests.reference import FIXTURES, SCALES, fixture, images, relative_error, timm_file


def logits(model, size=224):
    return np.concatenate([np.asarray(model(image[None], training=False)) for image in images(size)])


REFERENCES = [reference for family in families() for reference in forms_of(family).REFERENCES]


def parameters():
    return [
        pytest.param(reference, id=reference.fixture, marks=[pytest.mark.slow] * reference.slow)
        for reference in REFERENCES
    ]


@pytest.mark.parametrize("reference", parameters())
def test_outputs_equal_the_reference(reference, tmp_path):
    expected = fixture(reference.fixture)
    size = tuple(map(int, np.broadcast_to(expected["image_size"], 2)))
    settings = {"classifier_activation": None, "input_shape": (*size, 3), **reference.settings}
    model = keras_vit.create_model(reference.model, **settings)
    for outputs, scale in SCALES.items():
        if outputs in expected:
            report = keras_vit.load_weights(model, timm_file(reference.fixture, tmp_path, scale))
            assert not report.unused and not report.resized and not report.adapted
            assert relative_error(logits(model, size), expected[outputs]) < reference.tolerance, outputs
    shapes = dict(json.loads(str(expected["names"])))
    fixed = sum(np.prod(shapes[name]) for name in json.loads(str(expected.get("non_trainable", "[]"))))
    assert sum(np.prod(v.shape) for v in model.trainable_weights) == int(expected["params"]) - fixed


def test_every_fixture_is_compared():
    """A fixture that is not in the REFERENCES of a family has a test of its own, which reads it by name."""
    named = {reference.fixture for reference in REFERENCES}
    texts = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in FIXTURES.glob("*.npz"):
        assert path.stem in named or path.stem in texts, path.name
