"""What the names of files and folders say: which are images, which lie beside images, and which are litter.

Images are recognised by their content. Names are asked first, so that no file has to be opened only to find out that it
is none.
"""

from __future__ import annotations

from collections import Counter

from feature_cache.errors import printable

# What programs and systems leave behind. Other names that begin with a dot are passed over, too, as hidden.
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
_LITTER_ENDS = (":zone.identifier", ".lrdata")  # of Windows beside downloads, of Lightroom
# A file of such a name is an image, or was meant to be one: where it cannot be read, that is an error.
_IMAGES = """
.png .apng .jpg .jpeg .jpe .jfif .gif .bmp .dib .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst .ico
.cur .icns .jp2 .j2k .jpc .jpf .jpx .j2c .jxl .avif .avifs .heic .heif .heics .heifs .hif .mpo .pcx .dcx .sgi .rgb
.rgba .bw .ras .xbm .xpm .dds .psd .qoi .msp .im .fits .fit .svg .eps .wmf .emf .dcm .dng .cr2 .cr3 .nef .arw .raf
.orf .rw2
"""
# A file of such a name lies beside images and is none.
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
    """What a file or folder that a program or the system left behind is called in a note; None for all others."""
    lower = name.lower()
    if lower.startswith("._"):
        return "._*"
    if lower in _LITTER:
        return _LITTER[lower].strip()
    if lower.startswith("."):
        return "other hidden names"
    return next((f"*{end}" for end in _LITTER_ENDS if lower.endswith(end)), None)


def suffix(name: str) -> str:
    """The ending of a file's name in lower case, with its dot, or nothing."""
    stem, dot, ending = name.rpartition(".")
    return (dot + ending).lower() if stem else ""


def counted(kinds: Counter[str], most: int = 8) -> str:
    """``61 (60 .xml, 1 .txt)``: how many, the most frequent first, and how many of other kinds."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {printable(kind)}" for kind, count in ordered[:most]]
    if rest := ordered[most:]:
        parts.append(f"{sum(count for _, count in rest):,} of {len(rest)} more kinds")
    return f"{kinds.total():,} ({', '.join(parts)})"
