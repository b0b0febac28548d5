"""Fetching a published checkpoint from the Hugging Face hub, or finding it where a person has put it.

A file `FOLDER/REPOSITORY/model.safetensors` is used as it is, with no network. FOLDER is the environment variable
KERAS_VIT_CACHE, or ~/.cache/keras_vit; REPOSITORY is as `list_weights` gives it, such as
"timm/vit_base_patch16_224.augreg_in21k". Any other file comes from the cache of huggingface_hub, which fetches it at
first: in KERAS_VIT_CACHE where that is set, and where HF_HOME or HF_HUB_CACHE say otherwise. HF_ENDPOINT (a mirror)
and HF_HUB_OFFLINE work as always.
"""

import os
from pathlib import Path

from keras_vit.weights.published import PublishedWeights


def fetch(record: PublishedWeights, *, again: bool = False) -> str:
    """The path of a checkpoint's file, fetched if it is not on this machine.

    Args:
        record: The checkpoint.
        again: Whether to fetch it although it is in the cache.

    Raises:
        ConnectionError: It can't be fetched; the sentence says from where, and where to put it by hand.
        ValueError: The file is truncated or no safetensors file.
    """
    placed = _place(record)
    if placed.is_file():
        if again:
            raise ValueError(f"{str(placed)!r} was put there by hand: delete or replace it.")
        _check(placed, "Delete or replace it.")
        return str(placed)
    path = _download(record, again)
    _check(path, f"Fetch it again: keras_vit.download_weights({record.model!r}, {record.tag!r}, again=True).")
    return path


def _place(record):
    folder = os.environ.get("KERAS_VIT_CACHE") or Path.home() / ".cache" / "keras_vit"
    return Path(folder, *record.repository.split("/"), record.filename)


def _download(record, again):
    import huggingface_hub

    # huggingface_hub reads the variable when it is imported, which may be before a notebook sets it.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = huggingface_hub.hf_hub_url(record.repository, record.filename, endpoint=endpoint)
    try:
        return huggingface_hub.hf_hub_download(
            record.repository,
            record.filename,
            cache_dir=os.environ.get("KERAS_VIT_CACHE"),
            force_download=again,
            endpoint=endpoint,
        )
    except Exception as error:  # Its own, its HTTP library's (which differs by version) and the disk's.
        raise ConnectionError(
            f"The weights {record.tag!r} of {record.model!r} could not be fetched: {error}\n"
            f"Without a network, put the file of {url} at {str(_place(record))!r}."
        ) from error


def _check(path, remedy):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # Reads the header, and compares it with the length of the file.
            pass
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is truncated or no safetensors file ({error}). {remedy}") from error
