"""Heads made of scikit-learn estimators."""
