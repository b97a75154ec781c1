"""The report of `layertap.explore`: what was found in a data set, as values and as a page."""
