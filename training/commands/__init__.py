"""Subcommands of ``pwcat`` that need torch, a module each; :mod:`pwcat.cli` imports the one that is called."""
