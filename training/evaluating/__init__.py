"""The steps of an evaluation: draws of samples, predictions judged by group, pixels of chips, rows and files of scores.

The public face is :mod:`training.evaluate`. Shapes everywhere: N samples of a task, M test samples of a draw, D length of an
embedding, K classes or labels, P labelled pixels.
"""
