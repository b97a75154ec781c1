"""Transparency: alpha channels, and single values of a PNG that are transparent."""

from __future__ import annotations

from PIL import Image

from transfer.data.images.options import BACKGROUND

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def mend_key(image: Image.Image, bits: int) -> str | None:
    """Change the transparent value of a PNG from a stored value to a decoded one: Pillow keeps the stored value.

    Parameters
    ----------
    image : PIL.Image.Image
        Its `info` is changed.
    bits : int
        The bits of a channel, as stored: gray of 2 and 4 bits is spread over 8, and of 16-bit colours 8 bits are kept.

    Returns
    -------
    str or None
        A remark, where other values become transparent too.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and bits in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)
        return "of its 16-bit colours 8 bits are read, so that those next to its transparent one are transparent, too"
    return None


def has_key_of_other_bits(image: Image.Image, bits: int) -> bool:
    """Whether `mend_key` changes this image."""
    key, depths = image.info.get("transparency"), {"L": (2, 4), "RGB": (16,)}
    return image.format == "PNG" and isinstance(key, int | tuple) and bits in depths.get(image.mode, ())


def is_invisible(image: Image.Image) -> bool:
    """Whether an image is transparent all over by its alpha."""
    return image.mode in _WITH_ALPHA and image.getchannel(image.getbands()[-1]).getextrema()[1] == 0


def to_gray_or_rgb(image: Image.Image, alpha: str) -> Image.Image:
    """An image of at most 8 bits as one of mode L or RGB, with the background that `alpha` names behind it."""
    if image.mode == "1":
        transparent = image.info.get("transparency")
        image = image.convert("L")
        if isinstance(transparent, int):  # 0 or 1, an index
            image.info["transparency"] = 255 * transparent
    if alpha == "ignore" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        gray = image.mode in ("LA", "La")
        straight = image.convert("LA" if gray else "RGBA")
        if alpha == "ignore":
            return straight.convert("L" if gray else "RGB")
        level = BACKGROUND[alpha]
        background = Image.new(straight.mode, straight.size, (level,) * (len(straight.getbands()) - 1) + (255,))
        background.paste(straight, mask=straight.getchannel("A"))
        return background.convert("L" if gray else "RGB")
    return image.convert("RGB")
