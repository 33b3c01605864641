"""From a plan to a cube: shards handed out, run, and accounted for."""
