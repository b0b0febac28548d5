"""Writing a model as an ONNX file, leaf layer by leaf layer."""
