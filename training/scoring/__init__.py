"""Formulas of scores over many bootstrap resamples at once; the public face is :mod:`training.scores`.

Shapes everywhere: N samples, K classes or labels, R resamples, C cells of a confusion matrix.
"""
