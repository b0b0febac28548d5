"""A small form of Microsoft Research's EfficientViT, and a reference output to compare the family with.

The other reference outputs are in test_efficientvit_msra.py: the weights of some are ill-conditioned in float32.
"""

from tests.models.cases import Reference

# The maps are 10 x 8 (padded windows), 5 x 4 and 3 x 2 (one window each).
TINY = dict(
    input_shape=(160, 128, 3), channels=(16, 16, 24), depths=(1, 2, 1), num_heads=(2, 2, 3), kernel_sizes=(5, 3, 3)
)
FORMS = {"three stages": ("EfficientViT_MSRA", TINY)}
REFERENCES = (Reference("efficientvit_m2", "efficientvit_m2", tolerance=1e-3),)
