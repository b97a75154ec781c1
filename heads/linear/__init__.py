"""Softmax regression that chooses its regularisation among many strengths."""
