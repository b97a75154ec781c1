"""Images in folders: one subfolder for each class, or none."""
