"""What was published, read as a catalog: a folder of it, or a repository on the Hugging Face Hub."""
