"""Analyses of features and predictions: wrong labels, maps, alike spaces. They see arrays, never images."""
