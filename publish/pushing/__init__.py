"""The push of a built folder, step by step: what is asked of the Hub, and what becomes of its answers."""
