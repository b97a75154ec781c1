"""Tiny nets of KerasHub with random weights; tests that use them are skipped where KerasHub is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

hub = pytest.importorskip("keras_hub", reason="KerasHub is an extra: pip install 'layertap[hub]'")

SIDE, SMALL = 32, {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
SCALE, OFFSET = [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]
SHAPE = {"image_shape": (SIDE, SIDE, 3)}
MLP = {"intermediate_dim": 32}


def _clip() -> Any:
    from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder

    vision = CLIPVisionEncoder(patch_size=8, **SMALL, **MLP, **SHAPE)
    text = CLIPTextEncoder(vocabulary_size=32, embedding_dim=16, max_sequence_length=8, **SMALL, **MLP)
    return hub.models.CLIPBackbone(vision_encoder=vision, text_encoder=text, projection_dim=16)


def _siglip() -> Any:
    from keras_hub.src.models.siglip.siglip_text_encoder import SigLIPTextEncoder
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    vision = SigLIPVisionEncoder(patch_size=8, **SMALL, **MLP, **SHAPE)
    text = SigLIPTextEncoder(vocabulary_size=32, embedding_dim=16, max_sequence_length=8, **SMALL, **MLP)
    return hub.models.SigLIPBackbone(vision_encoder=vision, text_encoder=text)


# A net, and a layer inside one of its layers with the number of tokens that are no patches.
BACKBONES: dict[str, tuple[Callable[[], Any], str, int | None]] = {
    "vit": (
        lambda: hub.models.ViTBackbone(patch_size=(8, 8), mlp_dim=32, **SMALL, **SHAPE),
        "vit_encoder/transformer_block_1",
        1,
    ),
    "dinov2 with registers": (
        lambda: hub.models.DINOV2Backbone(
            patch_size=8, num_register_tokens=4, position_embedding_shape=(SIDE, SIDE, 3), **SMALL, **MLP, **SHAPE
        ),
        "encoder/layers_0",
        5,
    ),
    "dinov3 with registers": (
        lambda: hub.models.DINOV3Backbone(patch_size=8, num_register_tokens=4, **SMALL, **MLP, **SHAPE),
        "encoder/layers_0",
        5,
    ),
    "deit": (
        lambda: hub.models.DeiTBackbone(patch_size=8, **SMALL, **MLP, **SHAPE),
        "deit_encoder/transformer_block_1/mlp",
        2,
    ),
    "clip": (_clip, "encoder_block_1/layer_norm_1", 1),
    "siglip": (_siglip, "encoder_block_1/mlp", 0),
    "swin": (
        lambda: hub.models.SwinTransformerBackbone(
            patch_size=2, embed_dim=8, window_size=4, depths=(1, 1), num_heads=(1, 2), **SHAPE
        ),
        "stage_0/blocks_0",
        0,
    ),
    "resnet": (
        lambda: hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            **SHAPE,
        ),
        "stack0_block0_out",
        None,
    ),
}


def save_preset(name: str, folder: Path) -> Path:
    """Write one of `BACKBONES` as a preset with an image converter of its own."""
    keras.utils.set_random_seed(0)
    BACKBONES[name][0]().save_to_preset(str(folder))
    hub.layers.ImageConverter(image_size=(SIDE, SIDE), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return folder
