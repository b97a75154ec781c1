"""Files of fitted heads, from which no code is run."""
