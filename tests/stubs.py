"""Write keras_vit/__init__.pyi, which tells editors and type checkers the names that are imported lazily.

`make stubs` runs this module; tests/test_package.py checks that the file is up to date.
"""

from pathlib import Path

import keras_vit
from keras_vit.models.families import families

STUB = Path(keras_vit.__file__).with_suffix(".pyi")


def stub() -> str:
    """Return the text of the stub: all public names, with each variant's function as an alias of its builder."""
    modules = {}
    for name, module in keras_vit._FUNCTIONS.items():
        modules.setdefault(module, []).append(name)
    aliases = []
    for folder, family in families().items():
        for name, module in family.functions.items():
            modules.setdefault(f"models.{folder}.{module}", []).append(name)
        aliases += [f"{known.function_name} = {known.builder}" for known in family.variants]
    lines = [
        "# Written by `make stubs`; do not edit.",
        *(f"from keras_vit import {name} as {name}" for name in keras_vit._SUBPACKAGES),
        *(
            f"from keras_vit.{module} import {name} as {name}"
            for module, names in sorted(modules.items())
            for name in sorted(names)
        ),
        "",
        "__version__: str",
        "",
        *sorted(aliases),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    STUB.write_text(stub())
