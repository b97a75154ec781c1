"""Pictures and pages of data sets and runs."""
