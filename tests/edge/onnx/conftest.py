"""Running ONNX files in this process."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest


class File:
    """An ONNX file that is checked and loaded.

    Attributes:
        proto: Its content.
        count: The number of its nodes by operator.
        metadata: Its metadata.
    """

    def __init__(self, path):
        self.proto = onnx.load(path)
        onnx.checker.check_model(self.proto, full_check=True)
        self.count = Counter(node.op_type for node in self.proto.graph.node)
        self.metadata = {entry.key: entry.value for entry in self.proto.metadata_props}
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, images):
        """Return the outputs for images, run in batches of the file's size."""
        (taken,) = self._session.get_inputs()
        size = taken.shape[0]
        parts = [images[first : first + size] for first in range(0, len(images), size)]
        results = [self._session.run(None, {taken.name: part}) for part in parts]
        return [np.concatenate(outputs) for outputs in zip(*results, strict=True)]

    def initializers(self):
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}


@pytest.fixture
def open_onnx():
    return File
