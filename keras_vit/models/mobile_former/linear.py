"""The dense layer as Mobile-Former's authors start it."""

import keras


def linear(units: int, dtype, name: str) -> keras.layers.Dense:
    """A dense layer with a bias of zeros and a kernel drawn from N(0, 0.01), as the reference code has it."""
    return keras.layers.Dense(
        units, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), dtype=dtype, name=name
    )
