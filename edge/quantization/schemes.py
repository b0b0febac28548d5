"""Quantization schemes: which numbers of a model become integers, and of how many bits. Does not import Keras."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Literal

Weights = Literal["float32", "float16", "int8", "int4"]
Activations = Literal["float32", "dynamic_int8", "int8", "int16"]
Operators = Literal["products", "all"]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What becomes an integer when a model is quantized.

    Attributes:
        name: Name of the scheme.
        weights: Type of the kernels of dense layers and convolutions in the file. Integer kernels have one symmetric
            range per output channel. With "int4", the kernels of convolutions, and of dense layers that use each
            input in few multiplications, are int8, because LiteRT is faster that way.
        activations: Type of what products of matrices take and give. "int8" and "int16" have ranges that are fixed
            when the model is quantized, and cover the operations between products too; "dynamic_int8" has ranges that
            the runtime finds for each image; with "float32", integer kernels are only stored as integers.
        operators: What takes and gives such activations: "products" of matrices, and what is faster that way between
            them; or "all" operators, so that the whole model computes in integers.
        symmetric: Whether fixed ranges are symmetric, as TensorRT demands. Otherwise, ranges fit the values more
            closely where LiteRT allows it.
        overrides: From patterns of layer names to the name of the scheme for these layers, such as
            `{"head": "float32", "block_*.mlp": "int8_weights"}`. A pattern matches a layer, or all layers of a
            composite or model by its name; `*` stands for any characters. The last pattern that matches counts.

    Raises:
        ValueError: An attribute has an unknown value, or an override is not the name of a scheme.
    """

    name: str
    weights: Weights = "float32"
    activations: Activations = "float32"
    operators: Operators = "products"
    symmetric: bool = False
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for field, allowed in (
            ("weights", Weights.__args__),
            ("activations", Activations.__args__),
            ("operators", Operators.__args__),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {allowed}; received {getattr(self, field)!r}.")
        able = {"float32": Weights.__args__, "dynamic_int8": ("int8", "int4")}.get(self.activations, ("int8",))
        if self.weights not in able:
            raise ValueError(
                f"With activations={self.activations!r}, weights must be one of {able}; received {self.weights!r}."
            )
        whole = {"int8": Operators.__args__, "int16": ("all",)}.get(self.activations, ("products",))
        if self.operators not in whole:
            raise ValueError(
                f"With activations={self.activations!r}, operators must be one of {whole}; received {self.operators!r}."
            )
        if "float16" in (*self.overrides.values(), *([self.weights] if self.overrides else [])):
            raise ValueError("float16 is for a whole model: it has no overrides, and is none.")
        for pattern, name in self.overrides.items():
            if name not in SCHEMES:
                raise ValueError(f"The override of {pattern!r} must be one of {tuple(SCHEMES)}; received {name!r}.")
        if self.covers_all:
            for each in self._all():
                if each.kernel_bits is not None and each.activations not in ("int8", "int16"):
                    raise ValueError(
                        f"Beside layers with all operators in integers, no others can have {each.name!r}: "
                        "use float32, hybrid_int8, full_int8 or int8_int16 for them."
                    )

    @property
    def kernel_bits(self) -> int | None:
        """Bits of an integer kernel; None for a kernel of floats."""
        return {"int8": 8, "int4": 4}.get(self.weights)

    @property
    def makes_integers(self) -> bool:
        """Whether any layer has a kernel of integers."""
        return any(each.kernel_bits is not None for each in self._all())

    @property
    def needs_ranges(self) -> bool:
        """Whether any activations have fixed ranges, which need calibration data."""
        return any(each.activations in ("int8", "int16") for each in self._all())

    @property
    def covers_all(self) -> bool:
        """Whether all operators of the model, or of some layers, compute in integers."""
        return any(each.operators == "all" for each in self._all())

    def _all(self):
        return self, *(SCHEMES[name] for name in self.overrides.values())

    def for_layer(self, layer: str) -> Scheme:
        """Return the scheme of a layer of a flat model, by the layer's name."""
        for pattern, name in reversed(list(self.overrides.items())):
            if matches(pattern, layer):
                return SCHEMES[name]
        return self

    def check_overrides(self, layers: Iterable[str]) -> None:
        """Check that every override is for some layer.

        Args:
            layers: Names of the layers of a flat model.

        Raises:
            ValueError: An override matches no layer.
        """
        layers = list(layers)
        for pattern in self.overrides:
            if not any(matches(pattern, layer) for layer in layers):
                first = sorted({layer.split(".")[0] for layer in layers})
                raise ValueError(
                    f"The override {pattern!r} matches no layer. Layers start with {', '.join(first[:12])}"
                    f"{', ...' if len(first) > 12 else ''}; keras_vit.fuse(model).layers has them all."
                )

    def to_dict(self) -> dict:
        """Return the attributes as a dictionary of JSON types, for `from_dict`."""
        return {**dataclasses.asdict(self), "overrides": dict(self.overrides)}

    @classmethod
    def from_dict(cls, values: Mapping) -> Scheme:
        """Return the scheme from a dictionary that `to_dict` returned."""
        return cls(**values)


def matches(pattern: str, layer: str) -> bool:
    """Return whether a pattern matches a layer's name, or that of a composite or model that the layer is in."""
    parts = layer.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[: end + 1]), pattern) for end in range(len(parts)))


_ALL = (
    Scheme("float32"),
    Scheme("float16", weights="float16"),
    Scheme("int8_weights", weights="int8"),
    # LiteRT would convert int4 kernels to float on the way to each product, which makes the file four times as slow.
    Scheme("int4_weights", weights="int4", activations="dynamic_int8"),
    Scheme("dynamic_int8", weights="int8", activations="dynamic_int8"),
    Scheme("hybrid_int8", weights="int8", activations="int8"),
    Scheme("symmetric_int8", weights="int8", activations="int8", symmetric=True),
    Scheme("full_int8", weights="int8", activations="int8", operators="all"),
    Scheme("int8_int16", weights="int8", activations="int16", operators="all"),
)
SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}


def find_scheme(scheme: str | Scheme, overrides: Mapping[str, str] | None = None) -> Scheme:
    """Return a scheme by its name, with these overrides added.

    Args:
        scheme: A scheme, or the name of one.
        overrides: See `Scheme`.

    Raises:
        ValueError: There is no scheme of that name.
        TypeError: `scheme` is neither a name nor a scheme.
    """
    if isinstance(scheme, str):
        if scheme not in SCHEMES:
            raise ValueError(f"The scheme must be one of {tuple(SCHEMES)}; received {scheme!r}.")
        scheme = SCHEMES[scheme]
    if not isinstance(scheme, Scheme):
        raise TypeError(f"The scheme must be a name or a keras_vit.edge.Scheme; received {type(scheme).__name__}.")
    return dataclasses.replace(scheme, overrides={**scheme.overrides, **(overrides or {})})
