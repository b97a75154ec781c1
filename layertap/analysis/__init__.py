"""Analyses of features and predictions: neighbors, wrong labels, similarity of spaces. They see arrays, never images."""
