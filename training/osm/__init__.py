"""Map entities as models read them: tags, shapes and boxes of the tiles of a batch."""
