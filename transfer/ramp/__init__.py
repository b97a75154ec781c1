"""RAMP kits and their submissions (see paris-saclay-cds.github.io/ramp-docs)."""
