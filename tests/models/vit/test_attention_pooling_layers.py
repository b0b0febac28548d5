"""Attention pooling against NumPy code from its published formula, on any backend of Keras."""

import numpy as np

from keras_vit.models.vit.attention_pooling import AttentionPooling
from tests.layers.test_layers import attention, mlp, norm, numpy, part, randomized, weights
from tests.models.cases import TOKENS


def test_attention_pooling():
    layer = randomized(AttentionPooling(12, 2, 24), TOKENS)
    w = weights(layer)
    probe = np.repeat(w["probe/tokens"][np.newaxis], 2, axis=0)
    x = attention(TOKENS, part(w, "attention"), 2, queries=probe)[:, 0]
    y = mlp(norm(x) * w["norm/gamma"] + w["norm/beta"], part(w, "mlp"))
    np.testing.assert_allclose(numpy(layer(TOKENS)), x + y, atol=2e-4)
