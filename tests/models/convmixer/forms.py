"""Small forms of ConvMixer, and reference outputs to compare the family with."""

from keras_vit.models.convmixer.convmixer_block import ConvActivationNorm, ConvMixerBlock
from tests.models.cases import IMAGES, Reference

# A map of 7 x 5 pixels, smaller than the kernel in one direction, with some pixels beyond the last whole patch.
TINY = dict(input_shape=(30, 23, 3), channels=16, depth=2, kernel_size=7, patch_size=4)
FORMS = {
    "GELU": ("ConvMixer", TINY),
    "ReLU": ("ConvMixer", {**TINY, "depth": 1, "kernel_size": 3, "activation": "relu"}),
}
REFERENCES = (
    Reference("convmixer_1024_20", "convmixer_1024_20_ks9_p14"),
    Reference("convmixer_768_32", "convmixer_768_32", slow=True),
    Reference("convmixer_1536_20", "convmixer_1536_20", slow=True),
)
LAYERS = [
    (ConvActivationNorm, {"channels": 5, "kernel_size": 3, "strides": 3, "activation": "relu"}, IMAGES),
    (ConvMixerBlock, {"channels": 3, "kernel_size": 5, "drop_path_rate": 0.2}, IMAGES),
]
