"""Images that are arrays in files."""
