"""The steps of loading: order, placement, source, reading ahead, transfer; :mod:`training.loader` puts them together."""
