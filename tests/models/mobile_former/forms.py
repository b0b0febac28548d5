"""Small forms of Mobile-Former, with every kind of block, and reference outputs to compare the family with."""

from tests.models.cases import Reference

TINY = dict(
    input_shape=(33, 33, 3),
    stem_channels=8,
    lite_row=(16, 8, 1),
    rows=((48, 16, 2), (32, 16, 1), (48, 24, 1)),
    num_tokens=3,
    token_width=16,
    head_width=20,
)
FORMS = {
    "one block": ("MobileFormer", {**TINY, "rows": TINY["rows"][:1]}),
    "grouped": ("MobileFormer", {**TINY, "groups": 4}),
    "ungrouped": ("MobileFormer", {**TINY, "groups": 1}),
}
_SLOW = ("52m", "96m", "151m", "214m", "508m")
REFERENCES = (
    *(Reference(f"mobile_former_{size}", f"mobile_former_{size}") for size in ("26m", "294m")),
    *(Reference(f"mobile_former_{size}", f"mobile_former_{size}", slow=True) for size in _SLOW),
)
# Its own layers take several inputs or are tested in test_mobile_former_layers.py.
LAYERS: list = []
