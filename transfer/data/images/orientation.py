"""The EXIF orientation of an image: how it is read, and how stored pixels are turned upright by it."""

from __future__ import annotations

from PIL import Image

ORIENTATION_TAG = 274
# The transposition that brings an image of each orientation upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
FROM_THE_END = (3, 4, 7, 8)  # orientations whose first upright row is the last stored row or column


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the file has none, or one without a meaning."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata is no reason to refuse an image whose pixels are sound
        return 1
    return value if isinstance(value, int) else 1


def transposed(image: Image.Image, orientation: int) -> Image.Image:
    """The upright version of an image of this orientation (see `transfer.data.images.strips` for large images)."""
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
