"""The report of `layertap.explore`: what was found in a data set, as values, as pictures and as a page."""
