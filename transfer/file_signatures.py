"""Kinds of files by their first bytes, for images, tables, arrays and nets alike.

What a kind means to a user, and what to do about it, is for the modules that read files to say.
"""

from __future__ import annotations

# Bytes that a file begins with exactly, and the kind of file that they show.
_BINARY = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"PF\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"8BPS", "Photoshop"),
    (b"SIMPLE  =", "FITS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy array"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"Rar!", "RAR"),
    (b"7z\xbc\xaf", "7z"),
    (b"\xd0\xcf\x11\xe0", "OLE2"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"SQLite format 3", "SQLite"),
    (b"\x1aE\xdf\xa3", "Matroska"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x04", "pickle"),
)
# Texts in small letters, which may follow white space and a mark of byte order, in any case of letters.
_TEXT = (
    (b"%pdf", "PDF"),
    (b"%!ps", "PostScript"),
    (b"{\\rtf", "RTF"),
    (b"<svg", "SVG"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"<?xml", "XML"),
    (b"version https://git-lfs", "Git LFS pointer"),
)
_BEFORE_TEXT = b"\xef\xbb\xbf \r\n\t\f\v"
# Brands in the container of MPEG-4, which HEIC and AVIF share with videos.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")


def kind_by_signature(head: bytes) -> str | None:
    """The kind of a file that begins with `head`; None where no signature is known.

    Parameters
    ----------
    head : bytes
        At least the first 24 bytes; more where white space may come before a text.

    Examples
    --------
    >>> kind_by_signature(bytes([0x1F, 0x8B, 8, 0]))
    'gzip'
    >>> kind_by_signature(b"  <!DOCTYPE html>")
    'HTML'
    """
    text = head[:4096].lstrip(_BEFORE_TEXT)[:32].lower()
    return next(
        (kind for signature, kind in _BINARY if head.startswith(signature)),
        next((kind for signature, kind in _TEXT if text.startswith(signature)), None),
    )


def media_brand(head: bytes) -> bytes:
    """The brand of a file in the container of MPEG-4; empty for other files.

    Examples
    --------
    >>> media_brand(bytes(4) + b"ftypavif")
    b'avif'
    """
    return head[8:12] if head[4:8] == b"ftyp" else b""
