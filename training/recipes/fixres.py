"""Fine-tuning at a higher resolution, after FixRes (Touvron et al., arXiv 1906.06423).

    keras-vit train --recipe deit_b16_finetune_384 --data DATA --run-dir runs/deit_384

Objects appear larger in the random crops of training than in the center crops of evaluation. FixRes corrects this by
briefly fine-tuning the last layers at a higher resolution. The authors of DeiT fine-tune all weights in this way (arXiv
2012.12877, section 6). Position embeddings are resized when the weights are loaded.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    f"{model}_finetune_384": Recipe(
        paper="Touvron et al., arXiv 1906.06423; as in arXiv 2012.12877, section 6",
        hardware="8 GPUs",
        time=time,
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": 0.1, **settings},
        weights="fb_in1k",
        pipeline=deferred_images(model, "fb_in1k", image_size=384, batch_size=512, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=30,
            learning_rate=5e-6,
            final_learning_rate=5e-6,
            warmup_epochs=5,
            warmup_learning_rate=1e-6,
            weight_decay=1e-8,
            clip_norm=None,
            ema_decay=0.99996,
            label_smoothing=0.1,
        ),
    )
    for model, time, top1, settings in (
        ("deit_b16", "20 hours", 83.1, {}),
        ("deit_b16_distilled", "not published", 84.5, {"distillation_outputs": True}),
    )
}
