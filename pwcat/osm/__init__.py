"""Map data: OpenStreetMap's entities with their tags and shapes, cut into tiles."""
