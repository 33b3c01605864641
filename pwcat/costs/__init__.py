"""What reading a plan will take, what to expect of it, and what it took."""
