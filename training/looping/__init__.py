"""The parts of the training loop: one concern a module; :mod:`training.pretrain` puts them together."""
