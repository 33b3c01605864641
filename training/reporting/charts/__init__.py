"""Figures of a study's report: data in, a matplotlib ``Figure`` out; nothing is shown or saved here."""
