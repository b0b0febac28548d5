"""Small forms of MLP-Mixer, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.mlp_mixer.mixer_block import MixerBlock
from tests.models.cases import Reference

# 4 x 3 patches, so that tokens, channels and the MLPs' units all have different numbers.
TINY = dict(input_shape=(16, 12, 3), patch_size=4, width=24, depth=2, token_mlp_dim=16, channel_mlp_dim=40)
FORMS = {"MLPMixer": ("MLPMixer", TINY)}
_TANH = {"activation": "gelu_tanh"}
# The two GELUs move the logits by 1.5e-4 of the largest one, so these have to be closer.
REFERENCES = (
    Reference("mixer_s32", "mixer_s32_224", tolerance=5e-5),
    Reference("mixer_s32", "mixer_s32_224_tanh", _TANH, tolerance=5e-5),
    Reference("mixer_b16", "mixer_b16_224", slow=True, tolerance=5e-5),
    Reference("mixer_b16", "mixer_b16_224_tanh", _TANH, slow=True, tolerance=5e-5),
    Reference("mixer_l16", "mixer_l16_224", slow=True, tolerance=5e-5),
)
_TOKENS = np.random.default_rng(2).normal(size=(2, 5, 12)).astype("float32")
LAYERS = [
    (MixerBlock, dict(num_tokens=5, width=12, token_mlp_dim=7, channel_mlp_dim=20, drop_path_rate=0.2), _TOKENS),
]
