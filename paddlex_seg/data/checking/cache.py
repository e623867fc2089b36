"""The result of the last check of a data set, kept as long as nothing changes in it."""

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
from paddlex_seg.data.images import Decode
from paddlex_seg.files.json import write_json


@dataclass(frozen=True)
class CheckCache:
    """The result of the last check, and what was seen of each image."""

    output_dir: Path

    @property
    def images(self) -> Path:
        """The file of what was seen of each image, under the name of earlier versions where it has that."""
        folder = self.output_dir / "check_dataset" / "cache"
        earlier = folder / "pictures.jsonl"
        return earlier if earlier.is_file() else folder / "images.jsonl"

    @property
    def last(self) -> Path:
        """The file of the last result."""
        return self.output_dir / "check_dataset" / "cache" / "last.json"

    def earlier_result(self, fingerprint: str | None) -> dict[str, Any] | None:
        """The last result if it is of data with this fingerprint, and all that it names is still there."""
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
        """Write the result of data with this fingerprint."""
        self.last.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.last, {"fingerprint": fingerprint, "result": result}, indent=None)


def fingerprint_of(dataset_dir: Path, decode: Decode) -> str | None:
    """Of the bytes of the annotation files, and of name, size and time of change of every image.

    None where folders of images are links: what changes behind those is not seen.
    """
    paths = dataset_paths(dataset_dir)
    digest = hashlib.blake2b(f"{__version__} {decode} {paths.root.resolve()}".encode(), digest_size=16)
    for path in (paths.train_json, paths.val_json, paths.test_json):
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
        return "-"  # a link that leads nowhere
    return f"{status.st_size} {status.st_mtime_ns}"
