"""What a file is that has the name of an image, but cannot be read as one: told by its first bytes."""

import re
from dataclasses import dataclass
from pathlib import Path

_FIRST_BYTES = 1024


@dataclass(frozen=True)
class ForeignFile:
    """``what``: the kind of the file, with its article. ``hint``: what to do, one sentence or two."""

    what: str
    hint: str


def raw_image(path: Path) -> ForeignFile | None:
    """A raw image of a camera, by its name: most are TIFF files whose first image is a small preview."""
    return _RAW if path.suffix.lower() in _RAW_SUFFIXES and path.is_file() else None


_RAW_SUFFIXES = frozenset(".dng .nef .nrw .arw .sr2 .srf .pef .cr2 .3fr .erf .iiq .rwl".split())


def foreign_file(path: Path) -> ForeignFile | None:
    """The kind of a file that is not an image, or an image of an unsupported format; None if it is unknown.

    Also None for files that cannot be read, and for damaged files of the formats that can be read.
    """
    try:
        if not path.is_file():  # such as a pipe: opening it would wait for ever
            return None
        with path.open("rb") as file:
            head = file.read(_FIRST_BYTES)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return foreign_content(head)


def foreign_content(head: bytes) -> ForeignFile | None:
    """The same for the first bytes of a file, of which 1,024 are enough."""
    for pattern, found in _KINDS:
        if pattern.match(head):
            return found
    return None


_DOWNLOAD = "The download failed. Download the image again."
_TO_PNG = "Convert it to JPEG or PNG, and write the new name into the annotation file."
_DEVELOP = "Develop it to JPEG or PNG at full size, and write the new name into the annotation file."
_FRAMES = "Extract the annotated frames as image files."
_UNPACK = "Unpack it into the image folder."

_RAW = ForeignFile("a raw image of a camera", _DEVELOP)
_HEIC = ForeignFile("a HEIC image", _TO_PNG)
_VIDEO = ForeignFile("a video", _FRAMES)
_HTML = ForeignFile("an HTML page", _DOWNLOAD)


def _kind(pattern: bytes, what: ForeignFile) -> tuple[re.Pattern[bytes], ForeignFile]:
    return re.compile(pattern, re.DOTALL | re.IGNORECASE), what


_SPACE = rb"(?:\xef\xbb\xbf)?\s*"  # text may begin with a byte order mark
_KINDS = (
    _kind(rb"(?!.)", ForeignFile("empty (0 bytes)", "Copy the image file again.")),
    _kind(
        rb"version https://git-lfs",
        ForeignFile("a Git LFS pointer", "Run git lfs pull in the repository of the data set."),
    ),
    _kind(
        rb"(\.\./|/)*(\.git/)?annex/objects/",
        ForeignFile("a git-annex pointer", "Run git annex get in the repository of the data set."),
    ),
    _kind(_SPACE + rb"(<\?xml.{0,500}?)?(<!--.{0,500}?-->\s*)?(<!doctype html|<html|<head|<body)", _HTML),
    _kind(
        _SPACE + rb"(<\?xml.*?)?(<!.{0,500}?>\s*)*<svg[\s>]",
        ForeignFile("an SVG drawing", "Export it as PNG with the size that was annotated."),
    ),
    _kind(_SPACE + rb"<\?xml|" + _SPACE + rb"<error", ForeignFile("an XML text", _DOWNLOAD)),
    _kind(_SPACE + rb'(\{\s*["}]|\[\s*[\{"\]])', ForeignFile("a JSON text", _DOWNLOAD)),
    _kind(rb".{4}ftyp(heic|heix|hevc|hevx|heim|heis|mif1|msf1)", _HEIC),
    _kind(rb".{4}ftypcrx|(II\*\0|MM\0\*).{4}CR|IIRO|IIRS|IIU\0|FUJIFILMCCD-RAW|FOVb|\0MRM", _RAW),
    _kind(rb".{4}ftyp(?!avi[fs])|RIFF.{4}AVI |\x1a\x45\xdf\xa3|\0\0\x01\xba|FLV\x01|OggS", _VIDEO),
    _kind(rb"\0\0\0\x0cJXL |\xff\x0a", ForeignFile("a JPEG XL image", _TO_PNG)),
    _kind(rb"II\xbc\x01|MM\0\xbc", ForeignFile("a JPEG XR image", _TO_PNG)),
    _kind(rb"\x76\x2f\x31\x01", ForeignFile("an OpenEXR image", _TO_PNG)),
    _kind(rb"#\?(radiance|rgbe)", ForeignFile("a Radiance HDR image", _TO_PNG)),
    _kind(rb"8BPS", ForeignFile("a Photoshop file", _TO_PNG)),
    _kind(rb"%PDF|%!PS", ForeignFile("a PDF or PostScript document", "Export its pages as PNG images.")),
    _kind(
        rb".{128}DICM",
        ForeignFile("a DICOM file", "Export it as PNG, with the window that shows the objects."),
    ),
    _kind(rb"PK\x03\x04|PK\x05\x06", ForeignFile("a ZIP archive", _UNPACK)),
    _kind(
        rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!|.{257}ustar",
        ForeignFile("a packed archive", _UNPACK),
    ),
    _kind(
        rb"\x93NUMPY|\x89HDF|CDF[\x01\x02\x05]|\x80[\x02-\x05]",
        ForeignFile("a file of arrays", "Export the image as PNG or TIFF."),
    ),
    _kind(
        rb"\x4c\0\0\0\x01\x14\x02\0|book\0\0\0\0mark|\[InternetShortcut\]",
        ForeignFile("a shortcut", "Copy the image file itself."),
    ),
    _kind(
        rb"\0\x05\x16[\0\x07]",
        ForeignFile("a macOS resource file", "Copy the image file itself, whose name has no '._' in front."),
    ),
)
