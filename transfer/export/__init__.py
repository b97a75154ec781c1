"""Export of a net and a head as one model, in several formats."""
