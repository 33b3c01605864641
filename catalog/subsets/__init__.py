"""What is done with subsets: saved, joined, drawn from, matched, compared."""
