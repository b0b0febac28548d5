"""Small forms of MobileViT and MobileViTV2, and reference outputs to compare the family with."""

from keras_vit.models.mobilevit.mobilevit_block import MobileViTBlock
from keras_vit.models.mobilevit.mobilevit_v2_block import MobileViTV2Block
from keras_vit.models.mobilevit.separable_attention import SeparableSelfAttention
from keras_vit.models.mobilevit.separable_transformer_block import SeparableTransformerBlock
from tests.models.cases import IMAGES, TOKENS, Reference

# The maps of the last three stages are 12 x 9, 6 x 5 and 3 x 3, with odd sides.
TINY = dict(
    input_shape=(96, 72, 3), stem_channels=8, channels=(8, 12, 16, 20, 24), widths=(8, 12, 16), depths=(1, 1, 1)
)
FORMS = {
    "MobileViT": ("MobileViT", dict(**TINY, head_channels=32, num_heads=2, expansion=2)),
    "MobileViTV2": ("MobileViTV2", TINY),
}
REFERENCES = (
    Reference("mobilevit_xxs", "mobilevit_xxs"),
    Reference("mobilevit_xs", "mobilevit_xs", slow=True),
    Reference("mobilevit_s", "mobilevit_s"),
    Reference("mobilevitv2_050", "mobilevitv2_050"),
    Reference("mobilevitv2_100", "mobilevitv2_100"),
    Reference("mobilevitv2_200", "mobilevitv2_200", slow=True),
)
_MAPS = {"channels": 3, "width": 8, "depth": 1, "mlp_dim": 16}
LAYERS = [
    (SeparableSelfAttention, {"width": 12}, TOKENS),
    (SeparableTransformerBlock, {"width": 12, "mlp_dim": 24, "drop_path_rate": 0.2}, TOKENS),
    (MobileViTBlock, {**_MAPS, "size": (8, 12), "num_heads": 2, "drop_path_rate": 0.2}, IMAGES),
    (MobileViTV2Block, {**_MAPS, "size": (8, 11)}, IMAGES[:, :, 1:]),
]
