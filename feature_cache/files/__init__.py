"""Files: read safely, and written as a whole or not at all."""
