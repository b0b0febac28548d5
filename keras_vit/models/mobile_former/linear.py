"""The dense layer with the initialization of Mobile-Former's authors."""

import keras


def linear(units: int, dtype, name: str) -> keras.layers.Dense:
    """Return a dense layer with a bias of zeros and a kernel drawn from N(0, 0.01), as in the reference code."""
    return keras.layers.Dense(
        units, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), dtype=dtype, name=name
    )
