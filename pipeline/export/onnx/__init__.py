"""ONNX graphs that are written from a model's weights, not traced from an example."""
