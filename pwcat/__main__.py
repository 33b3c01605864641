"""``python -m pwcat``: the same as ``pwcat``."""

from pwcat.cli import main

main()
