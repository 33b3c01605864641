"""What a published dataset says of itself: card, licences, Croissant, STAC, from recorded numbers alone."""
