"""Small forms of ConvNeXt, and reference outputs to compare the family with."""

from keras_vit.models.convnext.convnext_block import ConvNeXtBlock, ConvNeXtDownsample, ConvNeXtStem
from tests.models.cases import IMAGES, Reference

# The maps are 12 x 9, 6 x 4 and 3 x 2: of odd sides, the last row or column is left out.
TINY = dict(input_shape=(48, 36, 3), channels=(8, 12, 16), depths=(1, 2, 1))
FORMS = {"three stages": ("ConvNeXt", TINY)}
REFERENCES = (
    Reference("convnext_t", "convnext_tiny"),
    Reference("convnext_b", "convnext_base", slow=True),
    Reference("convnext_xl", "convnext_xlarge", slow=True),
)
LAYERS = [
    (ConvNeXtStem, {"channels": 5}, IMAGES),
    (ConvNeXtDownsample, {"channels": 5}, IMAGES),
    (
        ConvNeXtBlock,
        {"channels": 3, "mlp_ratio": 2, "kernel_size": 5, "layer_scale": 0.5, "drop_path_rate": 0.1},
        IMAGES,
    ),
]
