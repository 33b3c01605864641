"""Classifiers and regressors on frozen embeddings, fitted for many draws of the samples side by side.

The public face is :mod:`training.probes`. Shapes everywhere: N samples, D length of an embedding, K outputs (classes, labels,
or one number), S draws in a stack, Q settings (strengths of a penalty, learning rates) fitted side by side, M samples to
predict.
"""
