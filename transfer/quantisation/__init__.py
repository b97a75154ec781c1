"""Quantisation: the nets that compute in int8, and the images that they are calibrated on."""
