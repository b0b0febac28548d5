"""A small ViT, arrays for it under timm's names, and files with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit

SETTINGS = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3, classifier_activation=None)


def model(classes=5, **settings):
    return keras_vit.ViT(classes=classes, **{**SETTINGS, **settings})


def arrays(classes=5, grid=4, depth=2):
    random = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, 24),
        "pos_embed": (1, grid * grid + 1, 24),
        "patch_embed.proj.weight": (24, 3, 4, 4),
        "patch_embed.proj.bias": (24,),
        "norm.weight": (24,),
        "norm.bias": (24,),
        "head.weight": (classes, 24),
        "head.bias": (classes,),
    }
    for i in range(depth):
        for name, shape in {
            "norm1": (24,), "norm2": (24,), "attn.qkv": (72, 24), "attn.proj": (24, 24), "mlp.fc1": (96, 24),
            "mlp.fc2": (24, 96),
        }.items():  # fmt: skip
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def write(folder, content, name="weights.safetensors"):
    save_file(content, folder / name)
    return folder / name


def write_shards(folder, content, count=3, stem="model"):
    """Write a sharded file as `save_pretrained` does, and return the path of its index."""
    names = list(content)
    index = {}
    for number in range(count):
        shard = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: content[name] for name in names[number::count]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(part, shard)
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
    return path


def write_float8(path: Path, content):
    """Write a safetensors file by hand with all arrays as float8, which NumPy does not have."""
    header, data = {}, b""
    for name, array in content.items():
        header[name] = {
            "dtype": "F8_E4M3",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.size],
        }
        data += bytes(array.size)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def assigned(content, target):
    """Assign arrays with timm's names to a model, layer by layer, as the reference for what a file should give."""
    get = target.get_layer
    dense = lambda name: (content[f"{name}.weight"].T, content[f"{name}.bias"])  # noqa: E731
    norm = lambda name: (content[f"{name}.weight"], content[f"{name}.bias"])  # noqa: E731
    values = [
        (
            get("patch_embedding").projection,
            (content["patch_embed.proj.weight"].transpose(2, 3, 1, 0), content["patch_embed.proj.bias"]),
        ),
        (get("class_token"), (content["cls_token"],)),
        (get("position_embedding"), (content["pos_embed"],)),
        (get("norm"), norm("norm")),
        (get("head"), dense("head")),
    ]
    for i in range(sum(layer.name.startswith("block_") for layer in target.layers)):
        block, name = get(f"block_{i}"), f"blocks.{i}"
        rows = [content[f"{name}.attn.qkv.{kind}"].reshape(3, 24, -1) for kind in ("weight", "bias")]
        attention = block.attention
        for part, layer in enumerate((attention.query, attention.key, attention.value)):
            values.append((layer, (rows[0][part].T, rows[1][part].ravel())))
        values += [
            (attention.projection, dense(f"{name}.attn.proj")),
            (block.norm1, norm(f"{name}.norm1")),
            (block.norm2, norm(f"{name}.norm2")),
            (block.mlp.expand, dense(f"{name}.mlp.fc1")),
            (block.mlp.contract, dense(f"{name}.mlp.fc2")),
        ]
    for layer, weights in values:
        layer.set_weights(weights)
    return target


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def refuses(path, error, match, target=None, **arguments):
    """Check that a file is refused in a few lines, and that the model does not change."""
    target = model() if target is None else target
    before = target.get_weights()
    with pytest.raises(error, match=match) as caught:
        keras_vit.load_weights(target, path, **arguments)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))
    message = str(caught.value)
    assert len(message.replace(str(path), "")) < 700 and message.count("\n") < 6, message
    return message
