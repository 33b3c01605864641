"""The way out: datasets and weights as folders and on the Hugging Face Hub."""
