"""glyphnet: a small VGG-style net for glyphs, whose weights ship with the package (see MODEL_CARD.md)."""
