"""What `layertap.workflows.compare` compares: `runs` by what they predict of the same images."""
