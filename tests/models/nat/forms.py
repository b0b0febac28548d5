"""Small forms of NAT and DiNAT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.nat.nat_block import ConvDownsampler, ConvTokenizer, NATBlock
from keras_vit.models.nat.neighborhood_attention import NeighborhoodAttention
from keras_vit.models.nat.neighborhood_bias import NeighborhoodBias, RelativeNeighborhoodBias
from keras_vit.models.nat.neighborhood_moves import NeighborhoodPartition, NeighborhoodReverse
from tests.models.cases import IMAGES, Reference

# The maps are 8 x 8, in nine blocks, and 4 x 4, in one.
TINY = dict(input_shape=(32, 32, 3), channels=12, depths=(1, 1), num_heads=(2, 3), kernel_size=3)
FORMS = {
    "NAT": ("NAT", TINY),
    # The maps are 9 x 7 and 5 x 4: the dilation divides neither, and the second is smaller than a neighborhood.
    "DiNAT": (
        "NAT",
        {
            **TINY,
            "input_shape": (34, 27, 3),
            "depths": (2, 2),
            "dilations": (2, 2),
            "layer_scale": 0.5,
        },
    ),
}
REFERENCES = (
    Reference("nat_mini", "nat_mini"),
    Reference("dinat_mini", "dinat_mini"),
    Reference("dinat_tiny", "dinat_tiny", slow=True),
)
_NEIGHBORHOODS = {"size": (8, 12), "kernel_size": 3, "dilation": 2, "block": (2, 3)}  # 2 x 2 blocks of 4 classes.
_SCORES = np.random.default_rng(1).normal(size=(2, 32, 6, 20)).astype("float32")
_BLOCKS = {"dilation": 2, "grid": (2, 2), "step": (2, 3)}
LAYERS = [
    (NeighborhoodPartition, {**_BLOCKS, "reach": (2, 3)}, IMAGES),
    (NeighborhoodReverse, _BLOCKS, IMAGES.reshape(2, 96, 3)),
    (RelativeNeighborhoodBias, {"num_heads": 2, "neighborhoods": _NEIGHBORHOODS}, _SCORES),
    (NeighborhoodBias, {"num_heads": 2, "neighborhoods": _NEIGHBORHOODS}, _SCORES),
    (
        NeighborhoodAttention,
        {"channels": 3, "num_heads": 3, "size": (8, 12), "kernel_size": 5, "block": (4, 3)},
        IMAGES,
    ),
    (ConvTokenizer, {"channels": 4}, IMAGES),
    (ConvDownsampler, {"channels": 5}, IMAGES),
    (
        NATBlock,
        {
            "channels": 3,
            "num_heads": 3,
            "size": (8, 12),
            "kernel_size": 3,
            "dilation": 2,
            "layer_scale": 0.1,
            "drop_path_rate": 0.1,
        },
        IMAGES,
    ),
]
