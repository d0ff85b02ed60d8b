"""Models of the front for other tools: ONNX, ``torch.export``, MLflow's registry."""
