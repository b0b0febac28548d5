"""Converting a Keras model to a file that a device runs."""
