"""Command line of the catalog, a module a command or two."""
