"""Choosing sites by the spectral entropy of their pixels."""
