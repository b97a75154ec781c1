"""From an image, in whatever form it comes, to the uint8 pixels that a net is given.

There is no other way from a file to pixels: features and pictures share it. `feature_cache.spec.PIXEL_RECIPE` is the
version of what happens here. Where a change alters the pixels of some kinds of files only, `Picture.recipe` rises for
these files, and their digests change: their old rows in a cache are not found any more.
"""

from transfer.data.images.cost import MAX_PIXELS
from transfer.data.images.options import DEFAULT, Decoding, decoding_of
from transfer.data.images.picture import ARRAY, Picture
from transfer.data.images.pixels import pixels_for, read_pixels, thumbnail, to_pixels
from transfer.data.images.sources import ArraySource, EncodedSource, FileSource, ImageSource, reason_of

__all__ = [
    "ARRAY",
    "DEFAULT",
    "MAX_PIXELS",
    "ArraySource",
    "Decoding",
    "EncodedSource",
    "FileSource",
    "ImageSource",
    "Picture",
    "decoding_of",
    "pixels_for",
    "read_pixels",
    "reason_of",
    "thumbnail",
    "to_pixels",
]
