"""Cache of the last check of a data set. It is valid until the data set changes."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlex_seg import __version__
from paddlex_seg.data.checking.scan import content_digest
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.image_facts import Decode
from paddlex_seg.data.images import pixel_limit
from paddlex_seg.files.json import write_json
from paddlex_seg.structures import Bands


@dataclass(frozen=True)
class CheckCache:
    """The result of the last check, and the facts of each image."""

    output_dir: Path

    @property
    def images(self) -> Path:
        """The file with the facts of each image; the file name of earlier versions is used if it exists."""
        folder = self.output_dir / "check_dataset" / "cache"
        earlier = folder / "pictures.jsonl"
        return earlier if earlier.is_file() else folder / "images.jsonl"

    @property
    def last(self) -> Path:
        """The file with the last result."""
        return self.output_dir / "check_dataset" / "cache" / "last.json"

    def earlier_result(self, fingerprint: str | None) -> dict[str, Any] | None:
        """The last result, if the fingerprint is the same and all files it names exist; otherwise None."""
        try:
            kept = json.loads(self.last.read_text(encoding="utf-8"))
            result = kept["result"]
            attributes, analysis = result["attributes"], result["analysis"]
            attributes["images"]  # earlier versions have no such key
            names = [*attributes["train_sample_paths"], *attributes["val_sample_paths"], *analysis.values()]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        there = all((self.output_dir / name).is_file() for name in names if name is not None)
        return result if there and kept["fingerprint"] == fingerprint else None

    def keep(self, fingerprint: str, result: Mapping[str, Any]) -> None:
        """Write the result with the fingerprint of its data."""
        self.last.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.last, {"fingerprint": fingerprint, "result": result}, indent=None)


def fingerprint_of(dataset_dir: Path, decode: Decode, bands: Bands | None = None) -> str | None:
    """A hash of settings, annotation files, and name, size and modification time of every image file.

    None if a folder of images is a symbolic link, because changes in the linked folder would be missed.
    """
    paths = dataset_paths(dataset_dir)
    settings = f"{__version__} {decode} {pixel_limit()} {bands} {paths.root.resolve()}"
    digest = hashlib.blake2b(settings.encode(errors="replace"), digest_size=16)
    for path in (paths.train_json, paths.val_json, paths.test_json, paths.root / ERRORS_FILE):
        digest.update(content_digest(path) if path.is_file() else b"-")
    for folder, folders, names in os.walk(paths.image_dir):
        folders.sort()
        if any(os.path.islink(os.path.join(folder, name)) for name in folders):
            return None
        for name in sorted(names):
            line = f"{folder}/{name} {_state_of(os.path.join(folder, name))}\n"
            digest.update(line.encode(errors="replace"))
    return digest.hexdigest()


def _state_of(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "-"  # a broken symbolic link
    return f"{status.st_size} {status.st_mtime_ns}"
