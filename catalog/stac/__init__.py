"""Collections as STAC: described, written, merged, exported, validated."""
