"""Models from a dataset: pretraining, evaluation, correlation, reports."""
