"""A published model: its card, its STAC item, where its weights come from, and the way back."""
