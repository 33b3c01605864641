"""How one thing goes with another over datasets: coefficients, their chance, their spread, and what may be said of them.

The public face is :mod:`training.correlation`. Shapes everywhere: N datasets, R orders or resamples, K covariates.
"""
