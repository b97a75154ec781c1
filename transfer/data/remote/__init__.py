"""Files elsewhere, named by URLs: object stores and web servers, read in pieces that are kept in memory for a while.

fsspec speaks to the servers. Nothing is written to disk, and a bounded number of pieces is on its way at a time.
"""
