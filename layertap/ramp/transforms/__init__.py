"""Image transforms of a submission: identified by their code, run once in worker processes, and cached."""
