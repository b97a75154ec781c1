"""The cache on disk: names of files, datasets and attributes, blocks of rows, and the version of their format.

`docs/format.md` describes them for readers in other languages.
"""

from __future__ import annotations

from typing import Any

import xxhash

FORMAT = 2

SPEC_FILE = "spec.json"
INDEX_FILE = "index.bin"
USED_FILE = ".used"  # its modification time is the last use of the space
GRAPH_FILE = "neighbors-{metric}.usearch"  # an approximate index of rows (see `transfer.search.index`)
GRAPH_KEYS_FILE = "neighbors-{metric}.keys"
GRAPH_FILES = ("neighbors-*.usearch", "neighbors-*.keys")
MEMO_FILE = "digests.sqlite"
RUNS_FOLDER = ".runs"
NETS_FOLDER = ".nets"  # quantised nets (see `feature_cache.files.quantised_nets`)

SEGMENTS = "segment-*.h5"
SET_ASIDE = "damaged-segment-*.h5"
TEMPORARY = ".*.tmp"

FEATURES = "features"
DIGEST = "digest"
VIEW = "view"
CHECK = "check"
CODING = "coding"

# Rows are checked in blocks of about this size, and compressed in chunks of one block: large enough that the
# cost of a call does not count, small enough that a single random row does not cost much more than itself.
BLOCK_BYTES = 16384
# The most that a reader accepts, far above what is ever written: rows of a segment, bytes of a row and of a block.
LARGEST_SEGMENT_ROWS = 2**26
LARGEST_ROW = 2**30
LARGEST_BLOCK = 64 * BLOCK_BYTES
# Data starts on a page of its own, so that it can be memory-mapped anywhere.
PAGE = 4096
# The registered HDF5 filter Zstandard: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
ZSTD_FILTER = 32015


def rows_per_block(row_bytes: int) -> int:
    """The number of rows in a block, for rows that take `row_bytes` bytes as they are stored."""
    return max(1, BLOCK_BYTES // max(row_bytes, 1))


def block_check(stored: Any) -> int:
    """The check of a block: XXH3-64 of its bytes as they are stored (https://xxhash.com)."""
    return xxhash.xxh3_64_intdigest(stored)
