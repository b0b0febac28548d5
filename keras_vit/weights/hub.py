"""Download a published checkpoint from the Hugging Face hub, or find a file that was put in place by hand.

A file `FOLDER/REPOSITORY/model.safetensors` is used as it is, without a network. FOLDER is the environment variable
KERAS_VIT_CACHE, or ~/.cache/keras_vit; REPOSITORY is the `repository` of the record in `list_weights`, such as
"timm/vit_base_patch16_224.augreg_in21k". All other files come from the cache of huggingface_hub, which downloads a file
when it is first needed. That cache is in KERAS_VIT_CACHE if this variable is set, and otherwise where HF_HOME or
HF_HUB_CACHE says. HF_ENDPOINT (a mirror) and HF_HUB_OFFLINE work as usual.
"""

import os
from pathlib import Path

from keras_vit.weights.published import PublishedWeights


def fetch(record: PublishedWeights, *, again: bool = False) -> str:
    """Return the path of a checkpoint's file, and download the file if it is not on this machine.

    Args:
        record: The checkpoint.
        again: Whether to download the file even if it is in the cache.

    Raises:
        ConnectionError: The download failed. The message gives the address of the file and the path to put it at.
        ValueError: The file is truncated or not a safetensors file, or `again` is true and the file was put in place by
            hand.
    """
    placed = _place(record)
    if placed.is_file():
        if again:
            raise ValueError(f"{str(placed)!r} was put in place by hand: delete or replace it.")
        _check(placed, "Delete or replace it.")
        return str(placed)
    path = _download(record, again)
    _check(path, f"Download it again: keras_vit.download_weights({record.model!r}, {record.tag!r}, again=True).")
    return path


def _place(record):
    folder = os.environ.get("KERAS_VIT_CACHE") or Path.home() / ".cache" / "keras_vit"
    return Path(folder, *record.repository.split("/"), record.filename)


def _download(record, again):
    import huggingface_hub

    # huggingface_hub reads the variable when it is imported, possibly before a notebook sets it.
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
    except Exception as error:  # From huggingface_hub, its HTTP library (which depends on the version) or the disk.
        raise ConnectionError(
            f"The weights {record.tag!r} of {record.model!r} could not be downloaded: {error}\n"
            f"Without a network, download {url} elsewhere and put the file at {str(_place(record))!r}."
        ) from error


def _check(path, remedy):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # Reads the header and compares it with the size of the file.
            pass
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is truncated or not a safetensors file ({error}). {remedy}") from error
