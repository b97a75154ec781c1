"""Conversion of nets for OpenVINO by Keras's own OpenVINO backend, in a process of its own and without TensorFlow."""
