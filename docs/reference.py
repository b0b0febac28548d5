"""Write the pages of the reference: all public names of keras_vit, keras_vit.edge and keras_vit.training, by folder.

Nothing is listed by hand: each name in the `__all__` of a package has an entry, and each family has a section, a table
of variants and a list of published weights.
"""

import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import keras_vit
from keras_vit.models.families import families


def write(folder: Path) -> None:
    """Write the pages that change. The others stay as they are, so that Sphinx does not read them again."""
    pages = {
        "models": _models_page(),
        "weights": _weights_page(),
        "keras_vit": _package_page(keras_vit, "keras_vit", skipped=_builders()),
        "layers": _package_page(keras_vit.layers, "keras_vit.layers"),
        "training": _package_page(importlib.import_module("keras_vit.training"), "keras_vit.training"),
        "edge": _package_page(importlib.import_module("keras_vit.edge"), "keras_vit.edge"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _builders() -> set[str]:
    """Return the names of the functions that build models, which have their own page."""
    names = set()
    for family in families().values():
        names.update(family.functions, (known.function_name for known in family.variants))
    return names


def _summary(thing) -> str:
    return inspect.getdoc(thing).partition("\n")[0].rstrip(".")


def _models_page() -> str:
    lines = [
        "# Models",
        "",
        "A family has one or more general builders, which describe their arguments here. Each published variant is a",
        "function that takes the same arguments and has the variant's values as defaults.",
        "",
    ]
    for folder, family in families().items():
        lines += [f"## {_summary(importlib.import_module(f'keras_vit.models.{folder}'))}", ""]
        lines += ["| function | name | what it is | license of the code | weights |", "|---|---|---|---|---:|"]
        for known in family.variants:
            lines.append(
                f"| `keras_vit.{known.function_name}` | `{known.name}` | {known.summary.rstrip('.')} | {known.license} "
                f"| {len(keras_vit.list_weights(known.name)) or ''} |"
            )
        lines.append("")
        for name in family.functions:
            lines += _entry("keras_vit", name)
    return "\n".join(lines)


def _weights_page() -> str:
    lines = [
        "# Published weights",
        "",
        "By the model's name; `weights=` takes the tag. Image sizes are in pixels, and top-1 is that of ImageNet-1k in",
        "percent. A license with † does not plainly allow commercial use; this is no legal advice.",
        "",
    ]
    for name in keras_vit.list_models():
        records = keras_vit.list_weights(name)
        if records:
            lines += [f"## {name}", "", "| tag | trained on | image size | top-1 | license |", "|---|---|---|---:|---|"]
        for record in records:
            height, width = record.image_size
            size = f"{height}" if height == width else f"{height} x {width}"
            top1 = "-" if record.top1 is None else f"{record.top1:.2f}"
            trained_on = record.trained_on if record.classes else f"{record.trained_on} (no classifier)"
            mark = "" if record.commercial else " †"
            lines.append(f"| `{record.tag}` | {trained_on} | {size} | {top1} | {record.license}{mark} |")
        lines.append("")
    return "\n".join(lines)


def _package_page(package: ModuleType, path: str, skipped: Collection[str] = ()) -> str:
    """A package's public names, in a section for each folder (or file, where there is no folder) that has them.

    Other names of things of another package are left out, which has them on its own page, and so are constants.
    """
    rooms = defaultdict(list)
    for name in package.__all__:
        thing = getattr(package, name)
        if name not in skipped and getattr(thing, "__module__", "").startswith(f"{path}."):
            own_path = thing.__module__.removeprefix(f"{path}.").split(".")[0]
            rooms[own_path].append(name)
    lines = [f"# {path}", "", inspect.getdoc(package), ""]
    for room, names in sorted(rooms.items()):
        if len(rooms) > 1 and path != "keras_vit.layers":
            lines += [f"## {_summary(importlib.import_module(f'{path}.{room}'))}", ""]
        for name in sorted(names, key=str.lower):
            lines += _entry(path, name)
    return "\n".join(lines)


def _entry(package: str, name: str) -> list[str]:
    directive = "autoclass" if inspect.isclass(getattr(sys.modules[package], name)) else "autofunction"
    options = [":members:"] if directive == "autoclass" else []
    return ["```{eval-rst}", f".. {directive}:: {package}.{name}", *(f"   {option}" for option in options), "```", ""]
