"""Models as ONNX: a graph that any runtime scores, held to the model's own predictions."""
