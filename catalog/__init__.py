"""What is in a dataset, and finding it: diversity, STAC items, search, subsets."""
