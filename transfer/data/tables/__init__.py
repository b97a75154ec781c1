"""Tables of images: CSV files with a row for each image, and RAMP kits, which hold such files.

`dialect` makes rows of cells from a file's bytes, `rows` checks that they make a table, `files` finds the image files
that the ids name, `labels` makes classes of cells, `pixels` makes images of tables that hold them as numbers, and
`loading` puts these steps together. Whatever is guessed on the way is listed in `Table.notes`.
"""

from transfer.data.tables.loading import SUFFIXES, Table, TableElsewhere, is_known, kit_file, other_kind, read

__all__ = ["SUFFIXES", "Table", "TableElsewhere", "is_known", "kit_file", "other_kind", "read"]
