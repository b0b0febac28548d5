"""The list of published weights: it fits the models, and licenses decide about commercial use."""

import json
import re

import keras
import pytest

import keras_vit
from keras_vit.cli.main import main
from keras_vit.models import registry
from keras_vit.models.families import families
from keras_vit.weights.published import grants_commercial_use

CATALOG = [record for family in families().values() for record in family.weights]

# Models of which no weights are published, or (Mobile-Former) only pickles without a license.
UNPUBLISHED = (
    *("vit_g14", "vit_gg14", "vit_xs16", "vit_xs28", "vit_b28", "efficientvit_l0", "mobile_former_"),
    *("mixer_s", "mixer_b32", "mixer_l32", "coatnet_", "cpvt_", "nat_", "dinat_", "t2t_", "igpt_"),
)
# Tags of weights with other statistics than the model's: others than its authors trained them, or it is BEiT v2.
OTHER_STATISTICS = ("miil_", "in1k_ft_")


def test_records_and_models_know_each_other():
    models = set(keras_vit.list_models())
    recorded = {record.model for record in CATALOG}
    assert recorded <= models
    assert {name for name in models if not name.startswith(UNPUBLISHED)} <= recorded
    for name in models:
        assert [record.tag for record in keras_vit.list_weights(name)] == [r.tag for r in CATALOG if r.model == name]


def test_tags_and_files_are_unique():
    assert len({(record.model, record.tag) for record in CATALOG}) == len(CATALOG)
    assert len({record.repository for record in CATALOG}) == len(CATALOG)


def test_records_are_plausible():
    for record in CATALOG:
        owner, name = record.repository.split("/")
        assert owner in ("timm", "microsoft", "Zetatech"), record
        assert owner != "timm" or re.sub(r"_(384|window\d+)$", "", record.tag) in name, record
        side = record.image_size[0]
        assert record.image_size == (side, side) and (side % 32 == 0 or side % 14 == 0), record
        assert 0.85 < record.crop_fraction <= 1 and record.interpolation in ("bicubic", "bilinear"), record
        assert record.classes in (None, 1000, 11221, 11821, 21841, 21843), record
        assert record.top1 is None or (record.classes == 1000 and 60 < record.top1 < 90), record
        scale, offset = record.statistics.scale_and_offset(3)
        for s, o in zip(scale, offset, strict=True):
            assert -3 <= o <= 0 < 255 * s + o <= 3, record  # The values of black and white pixels.


def test_larger_images_are_better():
    best = {(record.model, record.tag): record.top1 for record in CATALOG}
    pairs = [
        (best.get((model, tag.removesuffix("_384"))), top1) for (model, tag), top1 in best.items() if "_384" in tag
    ]
    assert sum(small is not None for small, _ in pairs) > 15
    assert all(small is None or small < large for small, large in pairs)


def test_supervised_weights_have_their_models_statistics():
    for record in CATALOG:
        if record.classes is not None and not record.tag.startswith(OTHER_STATISTICS):
            assert record.statistics == registry.variant(record.model).statistics, record


def test_which_license_grants_commercial_use():
    assert all(map(grants_commercial_use, ("Apache-2.0", "MIT", "BSD-3-Clause")))
    for license in ("CC-BY-NC-4.0", "Apple sample-code license", "none", "", "MIT, weights CC-BY-NC-4.0"):
        assert not grants_commercial_use(license), license


def test_models_for_commercial_use():
    allows = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"}
    licenses = {
        name: {registry.variant(name).license, *(record.license for record in keras_vit.list_weights(name))}
        for name in keras_vit.list_models()
    }
    expected = [name for name, found in licenses.items() if found & allows]
    assert keras_vit.list_models(commercial=True) == expected and 0 < len(expected) < len(licenses)
    assert "vit_b16" in expected  # Its code and most of its weights, though one checkpoint is for research only.
    assert any("CC-BY-NC-4.0" in record.license for record in keras_vit.list_weights("vit_b16"))


def test_a_record_prints_and_lists(capsys):
    record = next(r for r in keras_vit.list_weights("vit_b16") if r.tag == "augreg_in21k_ft_in1k_384")
    assert str(record).startswith("vit_b16.augreg_in21k_ft_in1k_384: ImageNet-21k, then ImageNet-1k, 384 x 384, ")
    assert main(["weights", "vit_b16"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("augreg_in21k_ft_in1k_384 "))
    assert line.split()[1:6] == ["384", "x", "384", "1000", "86.00"] and line.endswith("Apache-2.0")
    assert main(["weights", "vit_b16", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    mae = next(fact for fact in facts if fact["tag"] == "mae")
    assert mae["license"] == "CC-BY-NC-4.0" and mae["commercial"] is False and mae["classes"] is None
    assert mae["mean"] == [0.485, 0.456, 0.406]
    assert main(["weights", "vit_g14"]) == 0
    assert "No weights are published for vit_g14" in capsys.readouterr().out
    assert main(["list", "--commercial", "vit_b16"]) == 0


def test_an_unknown_model():
    with pytest.raises(ValueError, match=r"no model named 'vit_b15'\. The nearest are vit_b16"):
        keras_vit.list_weights("vit_b15")
    with pytest.raises(ValueError, match="no model named 'vit_b15'"):
        keras_vit.download_weights("vit_b15", "dino")


def test_a_model_can_normalize_with_all_statistics():
    for statistics in {record.statistics for record in CATALOG}:
        model = keras_vit.ViT(
            input_shape=(16, 16, 3), depth=1, width=12, num_heads=3, include_preprocessing=statistics, classes=2
        )
        layer = model.get_layer("preprocessing")
        white = keras.ops.convert_to_numpy(layer(255 * keras.ops.ones((1, 16, 16, 3))))[0, 0, 0]
        mean, std = statistics.mean, statistics.std
        expected = [(1 - m) / s for m, s in (zip(mean, std, strict=True) if isinstance(mean, tuple) else [(mean, std)])]
        assert white == pytest.approx(expected if len(expected) == 3 else expected * 3, rel=1e-5)


# From the papers: DeiT, table 5; DeiT III, table 1; MobileViT, figure 6; EfficientViT (MSRA), table 2.
PAPERS = {"deit_ti16": 72.2, "deit_b16": 83.1, "deit3_h14": 87.2, "mobilevit_s": 78.4, "efficientvit_m5": 77.1}


@pytest.mark.parametrize("name", [*PAPERS, "vit_b16", "mobile_former_26m", "vit_g14", "efficientvit_l0"])
def test_model_info_has_the_best_accuracy(name):
    info = keras_vit.model_info(name)
    published = {record.tag: record.top1 for record in keras_vit.list_weights(name) if record.top1 is not None}
    if not published:
        assert info["top1"] is None and info["top1_weights"] is None
    else:
        assert info["top1"] == published[info["top1_weights"]] == max(published.values())
        assert info["top1"] == pytest.approx(PAPERS.get(name, info["top1"]), abs=0.1)
