"""The nets of the catalogue that tests of every layer leave out."""

# More of the same layers as in the smallest net of the family, and three quarters of the time of all.
DEEPER = {
    *("convnextsmall", "convnextbase", "convnextlarge", "convnextxlarge", "densenet169", "densenet201", "nasnetlarge"),
    *(f"efficientnetb{number}" for number in range(1, 8)),
    *(f"efficientnetv2{size}" for size in ("b1", "b2", "b3", "s", "m", "l")),
    *("resnet101", "resnet101v2", "resnet152", "resnet152v2", "vgg19"),
}
