"""Nets in files that OpenVINO reads: ONNX, TensorFlow Lite and its own. Neither Keras nor TensorFlow is imported."""
