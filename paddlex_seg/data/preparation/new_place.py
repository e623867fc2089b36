"""A data set that is written to a new folder: a conversion, or a split of one that cannot be written."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.folders import files_in
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import require_writable
from paddlex_seg.files.publish import fresh_folder, publish, recover
from paddlex_seg.structures import BANDS_FILE

NOTE = "conversion.json"  # in the new folder: where its content comes from
Files = Mapping[str, bytes | Path | None]  # by name in the new folder; None: no such file


def new_place(output_dir: Path, dst_dir: str | None) -> Path:
    """The folder for a new data set: ``CheckDataset.convert.dst_dir``, or ``<output>/dataset``."""
    return Path(dst_dir) if dst_dir else output_dir / "dataset"


def is_writable(root: Path) -> bool:
    """Whether files can be written into the data set in ``root``. It tries."""
    try:
        for folder in (root, root / "annotations"):
            if folder == root or folder.is_dir():
                require_writable(folder)
    except OSError:
        return False
    return True


def require_usable(target: Path, source: Path) -> None:
    """Raises ConfigError when ``target`` has files of the user, or contains the data set in ``source``."""
    place, root = target.resolve(), source.resolve()
    if root.is_relative_to(place):
        raise ConfigError(
            f"{target}: the new data set cannot replace or contain the one in {source}. Set "
            "CheckDataset.convert.dst_dir to another folder."
        )
    if target.is_dir():
        recover(target)
    if not (target / NOTE).is_file() and next(files_in(target), None) is not None:
        raise ConfigError(
            f"{target}: the folder has files that no conversion wrote. Set CheckDataset.convert.dst_dir to "
            "an empty or new folder."
        )


def write_dataset(
    target: Path, files: Files, images: Mapping[str, bytes | Path], note: Mapping[str, Any]
) -> None:
    """Write a data set to ``target``, see `require_usable`. images: by file name.

    If it is there already, only what differs is replaced, and the old files are kept as ``.bak``. If
    ``target`` has a data set from another source, or images that are not in this one, the whole folder is
    kept as ``.bak``. note: where the data set comes from, under ``source``.
    """
    carried = {name: Path(note["source"]) / name for name in (BANDS_FILE, ERRORS_FILE)}
    content = {
        **{name: path.read_bytes() for name, path in carried.items() if path.is_file()},
        **files,
        NOTE: (json.dumps(note, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"),
    }
    content |= {f"images/{name}": place for name, place in images.items()}
    known = {name for name in content if name.startswith("images/")}
    there = {f"images/{name}" for name in files_in(target / "images") if ".bak" not in name}
    if (target / NOTE).is_file() and (_source_of(target) != note["source"] or not there <= known):
        with fresh_folder(target) as new:
            publish(new, {new / name: place for name, place in content.items()})
    else:
        target.mkdir(parents=True, exist_ok=True)
        publish(target, {target / name: place for name, place in content.items()})


def _source_of(target: Path) -> Any:
    with suppress(OSError, ValueError, TypeError, KeyError):
        return json.loads((target / NOTE).read_text(encoding="utf-8"))["source"]
    return None
