"""Load published weights: file formats, names of arrays, and their conversion for a Keras model."""
