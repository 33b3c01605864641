"""What :mod:`catalog.copying` copies, part by part."""
