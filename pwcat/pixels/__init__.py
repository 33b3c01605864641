"""From read pixels to chips: fail-over, harmonising, composites, quality."""
