"""Analyses of features and predictions: neighbors, wrong labels, alike spaces. They see arrays, never images."""
