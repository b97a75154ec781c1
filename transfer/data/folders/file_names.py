"""Names of files and folders: which are images, which are other files beside images, and which are litter.

Images are recognised by their content. Names are checked first, so that no file is opened only to see that it is no
image.
"""

from __future__ import annotations

from collections import Counter

from feature_cache.errors import printable

# Files and folders that programs and systems leave behind. Other names that begin with a dot are hidden.
_LITTER = {
    name.lower(): name
    for name in (
        *("@eaDir", "#recycle", "#snapshot", ".@__thumb", "@Recycle", "@Recently-Snapshot", "lost+found"),
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db"),
        *("desktop.ini", "autorun.inf", "__MACOSX", ".DS_Store", "Icon\r", ".Trashes", ".Spotlight-V100", ".localized"),
        *(".fseventsd", ".TemporaryItems", ".AppleDouble", ".thumbnails", ".nomedia", ".directory", ".dtrash"),
        *("digikam4.db", "thumbnails-digikam.db", "recognition.db", "similarity.db", ".picasa.ini", "Picasa.ini"),
        *(".picasaoriginals", "ZbThumbnail.info", "pspbrwse.jbf", ".dropbox", ".dropbox.cache", ".stfolder"),
        *(".stversions", "_gsdata_", ".git", ".gitignore", ".gitattributes", ".gitkeep", ".svn", ".hg", ".dvc"),
        *(".ipynb_checkpoints", "__pycache__", ".cache"),
    )
}
_LITTER_ENDS = (":zone.identifier", ".lrdata")  # Windows writes the first beside downloads, Lightroom the second
# A file with such a name is meant to be an image: it is an error where it cannot be read.
_IMAGES = """
.png .apng .jpg .jpeg .jpe .jfif .gif .bmp .dib .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst .ico
.cur .icns .jp2 .j2k .jpc .jpf .jpx .j2c .jxl .avif .avifs .heic .heif .heics .heifs .hif .mpo .pcx .dcx .sgi .rgb
.rgba .bw .ras .xbm .xpm .dds .psd .qoi .msp .im .fits .fit .svg .eps .wmf .emf .dcm .dng .cr2 .cr3 .nef .arw .raf
.orf .rw2
"""
# A file with such a name is no image.
_SIDECARS = """
.txt .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg .conf .md .rst .html .htm .css .js .log .pdf .doc .docx
.odt .rtf .tex .xls .xlsx .ods .ppt .pptx .py .ipynb .m .r .sh .bat .mat .npy .npz .pkl .pickle .pt .pth .ckpt .h5
.hdf5 .parquet .feather .arrow .tfrecord .sqlite .sqlite3 .db .sql .zip .tar .gz .tgz .bz2 .xz .7z .rar .zst .xmp
.aae .thm .pp3 .dop .cos .lbl .geojson .kml .gpx .url .lnk .webloc .nfo .md5 .sha1 .sha256 .sum .exe .dll .mov .mp4
.m4v .avi .mkv .webm .wmv .mpg .mpeg .3gp .mts .mp3 .wav .m4a .ogg .flac
"""
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
IMAGE_SUFFIXES = frozenset(_IMAGES.split())
SIDECAR_SUFFIXES = frozenset(_SIDECARS.split())


def litter(name: str) -> str | None:
    """The name in notes of a file or folder that a program or system left behind; None for all others.

    Examples
    --------
    >>> litter("thumbs.db"), litter("cat.jpg")
    ('Thumbs.db', None)
    """
    lower = name.lower()
    if lower.startswith("._"):
        return "._*"
    if lower in _LITTER:
        return _LITTER[lower].strip()
    if lower.startswith("."):
        return "other hidden names"
    return next((f"*{end}" for end in _LITTER_ENDS if lower.endswith(end)), None)


def suffix(name: str) -> str:
    """The extension of a file's name in lower case with its dot, or an empty text.

    Examples
    --------
    >>> suffix("a.JPG"), suffix(".hidden")
    ('.jpg', '')
    """
    stem, dot, ending = name.rpartition(".")
    return (dot + ending).lower() if stem else ""


def counted(kinds: Counter[str], most: int = 8) -> str:
    """A count and the most frequent kinds.

    Examples
    --------
    >>> counted(Counter({".xml": 60, ".txt": 1}))
    '61 (60 .xml, 1 .txt)'
    """
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {printable(kind)}" for kind, count in ordered[:most]]
    if rest := ordered[most:]:
        parts.append(f"{sum(count for _, count in rest):,} of {len(rest)} more kinds")
    return f"{kinds.total():,} ({', '.join(parts)})"
