"""Reading published weights: the files' formats, their names, and how they fit a Keras model."""
