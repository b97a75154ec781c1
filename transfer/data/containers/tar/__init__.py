"""Tar archives: their index, and reading them where gzip has packed them."""
