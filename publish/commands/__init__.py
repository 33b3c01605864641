"""The command line of publishing: a module a command."""
