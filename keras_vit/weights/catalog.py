"""Every published checkpoint that fits a model: where it is, under which licence, and how its images were prepared.

Facts of timm 1.0.31 (the `default_cfgs` tables of timm/models/*.py). timm writes the image size into the model's name
where a checkpoint has another than its siblings ("vit_base_patch16_384.augreg_in21k_ft_in1k"); here it ends the tag
("vit_b16", "augreg_in21k_ft_in1k_384").

Not here: Mobile-Former, whose authors give their weights without a licence, as pickles on a personal drive; ViT g/14,
G/14 and the other sizes of "Scaling Vision Transformers", which were never published; EfficientViT L0, which has no
classifier.
"""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from keras_vit.models.images import HALF, IMAGENET, UNIT, Statistics

_APACHE = "Apache-2.0"
_APPLE = "Apple sample-code licence"
_COMMERCIAL = frozenset({_APACHE, "BSD-2-Clause", "BSD-3-Clause", "MIT"})


def grants_commercial_use(licence: str) -> bool:
    """Whether a licence, by its SPDX name, plainly allows commercial use; one that is not known here does not."""
    return licence in _COMMERCIAL


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint.

    Attributes:
        model: Registry name of the model it fits, such as "vit_b16".
        tag: Its name among that model's weights: what `weights=` takes.
        repository: Its repository on the Hugging Face hub.
        licence: Of the weights.
        trained_on: The data sets, in order.
        image_size: (height, width) in pixels it was last trained or tuned at.
        classes: Of its classifier; None where it has none.
        top1: ImageNet-1k top-1 in percent, or None where none was published. As timm measured it with this
            preprocessing (results/results-imagenet.csv, commit 0173a139); EfficientViT's are its authors'.
        statistics: Of the images it was trained on.
        crop_fraction: Share of the resized image's side that evaluation keeps.
        interpolation: Of the resizing: "bicubic" or "bilinear".
    """

    model: str
    tag: str
    repository: str
    licence: str
    trained_on: str
    image_size: tuple[int, int]
    classes: int | None
    top1: float | None
    statistics: Statistics
    crop_fraction: float
    interpolation: str = "bicubic"
    filename: str = "model.safetensors"

    @property
    def commercial(self) -> bool:
        """Whether the licence plainly allows commercial use."""
        return grants_commercial_use(self.licence)

    def to_dict(self) -> dict:
        """The attributes, ready for JSON."""
        facts = asdict(self)
        statistics = facts.pop("statistics")
        return {**facts, **statistics, "commercial": self.commercial}

    def __str__(self):
        height, width = self.image_size
        head = "no classifier" if self.classes is None else f"{self.classes} classes"
        top1 = "" if self.top1 is None else f", top-1 {self.top1:.2f} %"
        return f"{self.model}.{self.tag}: {self.trained_on}, {height} x {width}, {head}{top1}, {self.licence}"


def _release(
    tag: str,
    trained_on: str,
    rows: Iterable[tuple],
    *,
    classes: int | None = 1000,
    statistics: Statistics = IMAGENET,
    licence: str = _APACHE,
) -> list[PublishedWeights]:
    """Checkpoints of one tag of timm's; a row is (our name, timm's name, image size, crop fraction, top-1)."""
    return [
        PublishedWeights(
            model=model,
            tag=f"{tag}_{size}" if timm_name.endswith("_384") else tag,
            repository=f"timm/{timm_name}.{tag}",
            licence=licence,
            trained_on=trained_on,
            image_size=(size, size),
            classes=classes,
            top1=top1,
            statistics=statistics,
            crop_fraction=crop,
        )
        for model, timm_name, size, crop, top1 in rows
    ]


_IN1K = "ImageNet-1k"
_IN21K = "ImageNet-21k"
_BOTH = "ImageNet-21k, then ImageNet-1k"

_VIT = [
    *_release(
        "augreg_in21k_ft_in1k",
        _BOTH,
        [
            ("vit_ti16", "vit_tiny_patch16_224", 224, 0.9, 75.454),
            ("vit_ti16", "vit_tiny_patch16_384", 384, 1.0, 78.424),
            ("vit_s32", "vit_small_patch32_224", 224, 0.9, 75.994),
            ("vit_s32", "vit_small_patch32_384", 384, 1.0, 80.486),
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, 81.384),
            ("vit_s16", "vit_small_patch16_384", 384, 1.0, 83.802),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 80.716),
            ("vit_b32", "vit_base_patch32_384", 384, 1.0, 83.350),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 84.532),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 85.996),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, 85.798),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, 85.834),
            ("vit_l16", "vit_large_patch16_384", 384, 1.0, 87.084),
        ],
        statistics=HALF,
    ),
    *_release(
        "augreg2_in21k_ft_in1k",  # Tuned again by timm's author.
        _BOTH,
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 85.096),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, 86.218),
        ],
        statistics=HALF,
    ),
    *_release(
        "augreg_in21k",
        _IN21K,
        [
            ("vit_ti16", "vit_tiny_patch16_224", 224, 0.9, None),
            ("vit_s32", "vit_small_patch32_224", 224, 0.9, None),
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, None),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
        ],
        classes=21843,
        statistics=HALF,
    ),
    *_release(
        "augreg_in1k",
        _IN1K,
        [
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, 78.846),
            ("vit_s16", "vit_small_patch16_384", 384, 1.0, 81.116),
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 74.894),
            ("vit_b32", "vit_base_patch32_384", 384, 1.0, 78.752),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 79.154),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 81.102),
        ],
        statistics=HALF,
    ),
    *_release(
        "orig_in21k_ft_in1k",
        _BOTH,
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 81.786),
            ("vit_b16", "vit_base_patch16_384", 384, 1.0, 84.200),
            ("vit_l32", "vit_large_patch32_384", 384, 1.0, 81.510),
        ],
        statistics=HALF,
    ),
    *_release(
        "orig_in21k",
        _IN21K,
        [
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_l32", "vit_large_patch32_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
            ("vit_h14", "vit_huge_patch14_224", 224, 0.9, None),
        ],
        classes=None,
        statistics=HALF,
    ),
    *_release(
        "sam_in1k",
        _IN1K,
        [
            ("vit_b32", "vit_base_patch32_224", 224, 0.9, 73.694),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, 80.244),
        ],
        statistics=HALF,
    ),
    *_release(
        "dino",
        f"{_IN1K} without labels",
        [
            ("vit_s16", "vit_small_patch16_224", 224, 0.9, None),
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_b8", "vit_base_patch8_224", 224, 0.9, None),
        ],
        classes=None,
    ),
    *_release(
        "mae",
        f"{_IN1K} without labels",
        [
            ("vit_b16", "vit_base_patch16_224", 224, 0.9, None),
            ("vit_l16", "vit_large_patch16_224", 224, 0.9, None),
            ("vit_h14", "vit_huge_patch14_224", 224, 0.9, None),
        ],
        classes=None,
        licence="CC-BY-NC-4.0",
    ),
]

_DEIT = [
    *_release(
        "fb_in1k",
        _IN1K,
        [
            ("deit_ti16", "deit_tiny_patch16_224", 224, 0.9, 72.172),
            ("deit_s16", "deit_small_patch16_224", 224, 0.9, 79.844),
            ("deit_b16", "deit_base_patch16_224", 224, 0.9, 81.992),
            ("deit_b16", "deit_base_patch16_384", 384, 1.0, 83.106),
            ("deit_ti16_distilled", "deit_tiny_distilled_patch16_224", 224, 0.9, 74.500),
            ("deit_s16_distilled", "deit_small_distilled_patch16_224", 224, 0.9, 81.218),
            ("deit_b16_distilled", "deit_base_distilled_patch16_224", 224, 0.9, 83.386),
            ("deit_b16_distilled", "deit_base_distilled_patch16_384", 384, 1.0, 85.426),
            ("deit3_s16", "deit3_small_patch16_224", 224, 0.9, 81.370),
            ("deit3_s16", "deit3_small_patch16_384", 384, 1.0, 83.430),
            ("deit3_m16", "deit3_medium_patch16_224", 224, 0.9, 83.086),
            ("deit3_b16", "deit3_base_patch16_224", 224, 0.9, 83.786),
            ("deit3_b16", "deit3_base_patch16_384", 384, 1.0, 85.072),
            ("deit3_l16", "deit3_large_patch16_224", 224, 0.9, 84.776),
            ("deit3_l16", "deit3_large_patch16_384", 384, 1.0, 85.812),
            ("deit3_h14", "deit3_huge_patch14_224", 224, 0.9, 85.224),
        ],
    ),
    *_release(
        "fb_in22k_ft_in1k",
        _BOTH,
        [
            ("deit3_s16", "deit3_small_patch16_224", 224, 1.0, 83.074),
            ("deit3_s16", "deit3_small_patch16_384", 384, 1.0, 84.824),
            ("deit3_m16", "deit3_medium_patch16_224", 224, 1.0, 84.552),
            ("deit3_b16", "deit3_base_patch16_224", 224, 1.0, 85.700),
            ("deit3_b16", "deit3_base_patch16_384", 384, 1.0, 86.738),
            ("deit3_l16", "deit3_large_patch16_224", 224, 1.0, 86.982),
            ("deit3_l16", "deit3_large_patch16_384", 384, 1.0, 87.720),
            ("deit3_h14", "deit3_huge_patch14_224", 224, 1.0, 87.186),
        ],
    ),
]

_MOBILEVIT = [
    *_release(
        "cvnets_in1k",
        _IN1K,
        [
            ("mobilevit_xxs", "mobilevit_xxs", 256, 0.9, 68.932),
            ("mobilevit_xs", "mobilevit_xs", 256, 0.9, 74.636),
            ("mobilevit_s", "mobilevit_s", 256, 0.9, 78.312),
            ("mobilevitv2_050", "mobilevitv2_050", 256, 0.888, 70.138),
            ("mobilevitv2_075", "mobilevitv2_075", 256, 0.888, 75.608),
            ("mobilevitv2_100", "mobilevitv2_100", 256, 0.888, 78.076),
            ("mobilevitv2_125", "mobilevitv2_125", 256, 0.888, 79.680),
            ("mobilevitv2_150", "mobilevitv2_150", 256, 0.888, 80.370),
            ("mobilevitv2_175", "mobilevitv2_175", 256, 0.888, 80.860),
            ("mobilevitv2_200", "mobilevitv2_200", 256, 0.888, 81.134),
        ],
        statistics=UNIT,
        licence=_APPLE,
    ),
    *_release(
        "cvnets_in22k_ft_in1k",
        _BOTH,
        [
            ("mobilevitv2_150", "mobilevitv2_150", 256, 0.888, 81.488),
            ("mobilevitv2_175", "mobilevitv2_175", 256, 0.888, 81.938),
            ("mobilevitv2_200", "mobilevitv2_200", 256, 0.888, 82.332),
        ],
        statistics=UNIT,
        licence=_APPLE,
    ),
    *_release(
        "cvnets_in22k_ft_in1k_384",
        _BOTH,
        [
            ("mobilevitv2_150", "mobilevitv2_150", 384, 1.0, 82.586),
            ("mobilevitv2_175", "mobilevitv2_175", 384, 1.0, 82.938),
            ("mobilevitv2_200", "mobilevitv2_200", 384, 1.0, 83.400),
        ],
        statistics=UNIT,
        licence=_APPLE,
    ),
]

_EFFICIENTVIT_MIT = [
    *_release(
        "r224_in1k",
        _IN1K,
        [
            ("efficientvit_b0", "efficientvit_b0", 224, 0.95, None),
            ("efficientvit_b1", "efficientvit_b1", 224, 0.95, 79.39),
            ("efficientvit_b2", "efficientvit_b2", 224, 0.95, 82.10),
            ("efficientvit_b3", "efficientvit_b3", 224, 0.95, 83.47),
            ("efficientvit_l1", "efficientvit_l1", 224, 1.0, 84.48),
            ("efficientvit_l2", "efficientvit_l2", 224, 1.0, 85.05),
            ("efficientvit_l3", "efficientvit_l3", 224, 1.0, 85.81),
        ],
    ),
    *_release(
        "r256_in1k",
        _IN1K,
        [
            ("efficientvit_b1", "efficientvit_b1", 256, 1.0, 79.92),
            ("efficientvit_b2", "efficientvit_b2", 256, 1.0, 82.70),
            ("efficientvit_b3", "efficientvit_b3", 256, 1.0, 83.81),
            ("efficientvit_l2", "efficientvit_l2", 256, 1.0, 85.37),
            ("efficientvit_l3", "efficientvit_l3", 256, 1.0, 85.94),
        ],
    ),
    *_release(
        "r288_in1k",
        _IN1K,
        [
            ("efficientvit_b1", "efficientvit_b1", 288, 1.0, 80.41),
            ("efficientvit_b2", "efficientvit_b2", 288, 1.0, 83.09),
            ("efficientvit_b3", "efficientvit_b3", 288, 1.0, 84.15),
            ("efficientvit_l2", "efficientvit_l2", 288, 1.0, 85.63),
        ],
    ),
    *_release("r320_in1k", _IN1K, [("efficientvit_l3", "efficientvit_l3", 320, 1.0, 86.23)]),
    *_release(
        "r384_in1k",
        _IN1K,
        [
            ("efficientvit_l2", "efficientvit_l2", 384, 1.0, 85.98),
            ("efficientvit_l3", "efficientvit_l3", 384, 1.0, 86.41),
        ],
    ),
]

_EFFICIENTVIT_MSRA = _release(
    "r224_in1k",
    _IN1K,
    [
        ("efficientvit_m0", "efficientvit_m0", 224, 0.875, 63.296),
        ("efficientvit_m1", "efficientvit_m1", 224, 0.875, 68.356),
        ("efficientvit_m2", "efficientvit_m2", 224, 0.875, 70.786),
        ("efficientvit_m3", "efficientvit_m3", 224, 0.875, 73.390),
        ("efficientvit_m4", "efficientvit_m4", 224, 0.875, 74.266),
        ("efficientvit_m5", "efficientvit_m5", 224, 0.875, 77.124),
    ],
    licence="MIT",
)

CATALOG: tuple[PublishedWeights, ...] = (*_VIT, *_DEIT, *_MOBILEVIT, *_EFFICIENTVIT_MIT, *_EFFICIENTVIT_MSRA)


def weights_of(model: str) -> list[PublishedWeights]:
    """The checkpoints of a model, by its registry name; an empty list where none are published."""
    return [record for record in CATALOG if record.model == model]


def find_weights(model: str, tag: str) -> PublishedWeights:
    """The checkpoint of a model with this tag; a ValueError that gives the nearest tags for any other."""
    records = {record.tag: record for record in weights_of(model)}
    if tag in records:
        return records[tag]
    if not records:
        raise ValueError(f"No weights are published for {model!r}: give None or the path of a file; received {tag!r}.")
    near = difflib.get_close_matches(str(tag).lower(), records, n=3, cutoff=0.4) or list(records)
    raise ValueError(
        f"{tag!r} is neither a file nor weights of {model!r}. The nearest are {', '.join(near)}; "
        f"keras_vit.list_weights({model!r}) gives all."
    )
