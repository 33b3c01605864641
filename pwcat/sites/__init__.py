"""From strata to sites: candidates are judged, placed in scenes, and taken until every quota is met."""
