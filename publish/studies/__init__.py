"""A study on the Hub: its datasets, models and tables, and a collection of all."""
