"""BEiT: costs, biases by relative position, and their resizing."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.beit.token_bias import TokenBias, relative_positions
from tests.models.cases import build

# Parameters and multiply-accumulates with 1000 classes, as timm counts them.
COSTS = {
    ("beit_b16", 224): (86_530_984, 17_563_828_224),
    ("beit_b16", 384): (86_744_104, 55_484_350_464),
    ("beit_l16", 224): (304_430_568, 61_554_712_576),
    ("beit_l16", 384): (304_998_888, 191_066_300_416),
    ("beit_l16", 512): (305_674_728, 361_986_285_568),
}


@pytest.mark.parametrize(("name", "size"), COSTS)
def test_parameters_and_macs(name, size):
    info = keras_vit.model_info(name, input_shape=(size, size, 3))
    assert (info["parameters"], info["macs"]) == COSTS[name, size]


def test_each_relative_position_has_its_row():
    rows, columns = 3, 2
    index = relative_positions((rows, columns))
    patches = [(row, column) for row in range(rows) for column in range(columns)]
    found = {}
    for q, (row, column) in enumerate(patches):
        for k, (other_row, other_column) in enumerate(patches):
            found.setdefault((row - other_row, column - other_column), set()).add(int(index[q + 1, k + 1]))
    assert len(found) == 5 * 3 and all(len(places) == 1 for places in found.values())
    # In the order of rows, then columns.
    assert [min(found[key]) for key in sorted(found)] == list(range(15))
    assert set(index[0, 1:]) == {15} and set(index[1:, 0]) == {16} and index[0, 0] == 17


def test_a_table_is_resized_with_the_image():
    """A table that is a linear function of the distance stays one, apart from the border of the interpolation."""
    small, large = TokenBias(1, (4, 4)), TokenBias(1, (8, 8))
    for layer, tokens in ((small, 17), (large, 65)):
        layer.build((None, 1, tokens, tokens))
    distances = np.indices((7, 7)).sum(axis=0).reshape(-1, 1) / 6.0
    table = np.concatenate([distances, [[7.0], [8.0], [9.0]]]).astype("float32")
    resized = large.resized(table)
    assert resized.shape == (15 * 15 + 3, 1)
    np.testing.assert_array_equal(resized[-3:], table[-3:])
    inner = resized[:-3].reshape(15, 15)[4:-4, 4:-4]
    assert np.all(np.diff(inner, axis=0) > 0) and np.all(np.diff(inner, axis=1) > 0)
    assert resized[112, 0] == pytest.approx(1.0, abs=1e-6)  # In the middle, the distance is zero.
    np.testing.assert_array_equal(small.resized(table), table)
    with pytest.raises(ValueError, match="has 20 rows, which is not the number of a square grid"):
        large.resized(np.zeros((20, 1), "float32"))


def test_a_resized_model_has_the_biases_of_its_grid():
    model = build("beit: BEiT")
    resized = keras_vit.resize_model(model, (24, 12, 3))
    assert resized(np.ones((1, 24, 12, 3), "float32")).shape == (1, 5)
    bias = resized.get_layer("block_0").attention.bias
    assert bias.grid == (6, 3) and bias.table.shape == (11 * 5 + 3, 3)


def test_the_keys_have_no_bias():
    model = build("beit: BEiT")
    attention = model.get_layer("block_0").attention
    assert attention.key.bias is None and attention.query.bias is not None and attention.value.bias is not None
    loaded = keras.Model.from_config(model.get_config())
    assert loaded.get_layer("block_1").attention.key.bias is None
