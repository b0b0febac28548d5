"""Load weights into a Keras model by name: read, match, adapt, check, assign."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras

from keras_vit.graph.flattening import weighted_leaves
from keras_vit.weights.adapting import adapt
from keras_vit.weights.checking import check_names, check_values
from keras_vit.weights.keras_files import PROJECT, SUFFIXES, own_variables
from keras_vit.weights.matching import match_arrays
from keras_vit.weights.readers import read_arrays, weights_file

_SHOWN = 6  # Names in one line of a printed report.


@dataclass
class LoadReport:
    """The result of `load_weights`.

    Weights have the model's names, such as "block_0.attention.query/kernel"; `unused` and `ignored` have the file's
    names.

    Attributes:
        project: The project whose names the file uses.
        loaded: All weights that were loaded from the file, including the resized and adapted ones.
        resized: Position tables that were resized from another image size.
        adapted: Weights that were adapted in another way: the first kernel, to a different number of image channels;
            the class token and the position table, if only one of file and model has a position for the class token.
        left_as_it_was: Weights that kept their values, because the file does not have them or they were not requested.
        unused: Arrays of the file that the model does not need.
        ignored: Arrays of the file that `ignore` left out.
        beginning: What all names of the file begin with and was taken off, such as "module.", or "".
    """

    project: str
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    left_as_it_was: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    beginning: str = ""

    def __str__(self):
        without = f" without {self.beginning!r}" if self.beginning else ""
        lines = [f"{self.project} names{without}: {len(self.loaded)} arrays loaded"]
        for what in ("resized", "adapted", "left_as_it_was", "unused", "ignored"):
            names = getattr(self, what)
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"{what.replace('_', ' ')}: {', '.join(names[:_SHOWN])}{more}")
        return "\n".join(lines)


def load_weights(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    head: bool | str = True,
    position_grid: tuple[int, int] | None = None,
    partial: bool = False,
    ignore: str | Sequence[str] = (),
) -> LoadReport:
    """Load a checkpoint into a model. If loading fails, the model does not change.

    Every weight of the model must be in the file, and everything in the file must belong to the model, unless you say
    otherwise. A position table for another image size is resized in the same way as by the model's authors. A first
    kernel for color images is summed over its channels for a model with one channel, and repeated for other numbers of
    channels. A beginning that all names have, such as "module.", is taken off.

    Args:
        model: A model of keras_vit.
        path: A .safetensors file with the names of timm, Hugging Face or Keras, one of its shards or their index; an
            .npz file with Google's names; a .keras, .weights.h5 or .h5 file of Keras; or a folder with one such file,
            such as a folder that `save_pretrained` or `training.fit` wrote.
        head: Whether to load the classifier. False keeps the model's own, for other classes; "auto" keeps it if the
            file has a different number of classes or no classifier.
        position_grid: Rows and columns of patches of the file's position table. Only needed if the grid is neither
            square nor the model's.
        partial: Whether to load only the weights that both the file and the model have. The report lists the others
            as `left_as_it_was` and `unused`. A weight of another shape is still an error, except for the classifier.
        ignore: A pattern or several, with the wildcards of a shell, of names in the file that are left out, such as
            "decoder*" for the decoder of a masked autoencoder.

    Returns:
        A `LoadReport`.

    Raises:
        FileNotFoundError: There is no such file, or a shard is missing.
        ValueError: The file is a pickle, is quantized, is corrupt, or belongs to another model. The message says what
            differs.
    """
    if head not in (True, False, "auto"):
        raise ValueError(f"head must be True, False or 'auto'; received {head!r}.")
    path = weights_file(os.fspath(path))
    ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    arrays = read_arrays(path)
    whole = _saved_whole(model)
    if whole is not None and path.lower().endswith(SUFFIXES):
        if partial or ignore or head is False:
            raise ValueError(
                f"{path!r} can only be loaded as a whole, without head, partial or ignore: Keras saves the layers "
                f"inside {whole!r} in an order that only Keras knows."
            )
        return _load_whole(model, path, arrays)
    match = match_arrays(model, path, arrays, "auto" if partial and head else head, ignore)
    check_names(match, model, partial)
    adapt(match, model, position_grid)
    check_values(match, model)
    for name, value in match.values.items():
        match.variables[name].assign(value)
    for layer in match.layers.values():
        if hasattr(layer, "finalize_state"):  # Keras' Normalization computes constants from its weights.
            layer.finalize_state()
    return LoadReport(
        project=match.naming.project,
        loaded=list(match.values),
        resized=match.resized,
        adapted=match.adapted,
        left_as_it_was=[*match.kept, *match.missing],
        unused=sorted(match.unused),
        ignored=match.ignored,
        beginning=match.beginning,
    )


def _saved_whole(model):
    """Return the name of a layer that has layers of its own inside, which is not a composite of keras_vit, or None."""
    for name, layer in weighted_leaves(model):
        own = own_variables(layer).values()
        if any(all(variable is not saved for saved in own) for variable in layer.weights):
            return name
    return None


def _load_whole(model, path, arrays):
    before = [keras.ops.convert_to_numpy(variable) for variable in model.weights]
    count = sum(not name.startswith(("optimizer/", "metrics/")) for name in arrays)
    if count != len(before):
        raise ValueError(
            f"{path!r} holds weights of another model than {model.name!r}: it has {count} arrays and the model has "
            f"{len(before)} weights."
        )
    try:
        model.load_weights(path)
    except Exception as error:
        for variable, value in zip(model.weights, before, strict=True):
            variable.assign(value)
        raise ValueError(f"{path!r} holds weights of another model than {model.name!r}: {error}") from error
    return LoadReport(PROJECT, loaded=[variable.path for variable in model.weights])
