"""Writers: from a Keras model to a file that a device runs."""
