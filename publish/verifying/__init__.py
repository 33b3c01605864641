"""What is checked of a publication, wherever it lies: its files, its tables, and that it loads where nothing of it is yet."""
