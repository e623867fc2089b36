"""Repair: write a copy of a data set with all corrections that need no guessing, and count what is removed.

The copy contains a log of every change. `undo.undo_repair` reverts them. Image files are linked or copied,
never changed.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlex_seg.data.checking.repair.annotations import (
    repair_geometry,
    repair_ids,
    repair_masks,
    repair_numbers,
)
from paddlex_seg.data.checking.repair.categories import repair_categories
from paddlex_seg.data.checking.repair.draft import Draft
from paddlex_seg.data.checking.repair.images import repair_images
from paddlex_seg.data.checking.repair.undo import LOG_NAME, read_log
from paddlex_seg.data.checking.repair.values import repair_values
from paddlex_seg.data.checking.scan import content_digest
from paddlex_seg.data.coco.other_content import other_content
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import load_with_encoding
from paddlex_seg.data.conversion_errors import ERRORS_FILE
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.images import image_path
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.files.atomic import require_writable, write_bytes
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import fresh_folder, link_or_copy
from paddlex_seg.structures import BANDS_FILE, Bands


@dataclass(frozen=True)
class Losses:
    """The records of one kind that a repair removed."""

    by_code: Mapping[str, int]  # without the repeated ones
    repeated: int  # removed because the same record is still there
    total: int  # records before the repair

    @property
    def count(self) -> int:
        """Number of removed records, without the repeated ones."""
        return sum(self.by_code.values())

    @property
    def share(self) -> float:
        """Removed part of the records, 0..1."""
        return self.count / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{self.count} of {self.total}"


@dataclass(frozen=True)
class Repair:
    """A repaired copy of a data set."""

    root: Path
    log_file: Path
    counts: Mapping[str, int]  # repaired findings by code
    objects: Losses
    images: Losses
    written: bool  # False if the same copy exists already
    findings: tuple[Finding, ...] = ()  # about files whose encoding was guessed: the copy has what was read

    @property
    def removed_much(self) -> bool:
        """Whether more than 5 % of the objects or of the images were removed."""
        return max(self.objects.share, self.images.share) > 0.05

    @property
    def losses_text(self) -> str:
        """What was removed, for messages."""
        codes = Counter(self.objects.by_code) + Counter(self.images.by_code)
        reasons = ", ".join(f"{code} {count}" for code, count in codes.items())
        return (
            f"the repair removed {self.objects} objects ({self.objects.share:.1%}) and {self.images} images "
            f"({self.images.share:.1%})" + f": {reasons}" * bool(codes)
        )


def repair_dataset(dataset_dir: Path, target: Path | None = None, *, bands: Bands | None = None) -> Repair:
    """Write a repaired copy of the data set in ``dataset_dir`` to ``target``.

    Without ``target``, the copy is beside the data set, with ``_fixed`` added to its name. ``findings.KINDS``
    lists the repair for each code. Problems that only a person can decide stay. The copy is written
    atomically. An older copy at the same place is renamed to ``<name>.bak``. bands: how images are read.
    Raises DatasetError when there is no annotation file, or one that is not valid JSON, and ConfigError when
    nothing can be written beside ``target``.
    """
    paths = dataset_paths(dataset_dir)
    root = paths.root.resolve()
    target = target or Path(os.path.abspath(paths.root)).with_name(f"{root.name}_fixed")  # of ".", too
    place = target.resolve()
    if root.is_relative_to(place) or place.is_relative_to(root):
        raise DatasetError(
            f"{target}: the repaired copy cannot replace the data set, contain it, or be inside it. Set "
            "CheckDataset.fix.dst_dir to another folder."
        )
    files = [path for path in (paths.train_json, paths.val_json, paths.test_json) if path.is_file()]
    if not files:
        raise DatasetError(f"{paths.root}: has no annotations/instance_train.json or _val.json to repair.")
    loaded = {path: load_with_encoding(path) for path in files}
    drafts = [Draft(path, document) for path, (document, _) in loaded.items()]
    repairable = [draft for draft in drafts if other_content(draft.original) is None]
    for draft in repairable:
        repair_values(draft)
    repair_images(repairable, paths.image_dir, bands)
    repair_categories(repairable)
    for draft in repairable:
        repair_ids(draft)
        repair_masks(draft)
        repair_geometry(draft)
        repair_numbers(draft)
    log = {
        "source": str(paths.root.resolve()),
        "files": {draft.path.name: draft.changes(content_digest(draft.path).hex()) for draft in drafts},
    }
    counts = sum((draft.counts for draft in drafts), Counter[str]())
    written = read_log(target) != log
    if written:
        _write_copy(target, drafts, log, paths.image_dir)
    return Repair(
        root=target,
        log_file=target / LOG_NAME,
        counts=dict(counts),
        objects=_losses(drafts, "annotations"),
        images=_losses(drafts, "images"),
        written=written,
        findings=tuple(
            finding(about[0], path.name, about[1])
            for path, (_, about) in loaded.items()
            if about is not None and about[0] == "json_encoding_guessed"
        ),
    )


def _losses(drafts: Sequence[Draft], kind: str) -> Losses:
    removed = [draft.removed(kind) for draft in drafts]
    return Losses(
        by_code=dict(sum((lost for lost, _ in removed), Counter[str]())),
        repeated=sum(repeated for _, repeated in removed),
        total=sum(len(getattr(draft, kind)) for draft in drafts),
    )


def _write_copy(target: Path, drafts: Sequence[Draft], log: Mapping[str, Any], image_dir: Path) -> None:
    try:
        require_writable(target.parent)
    except OSError as error:
        raise ConfigError(
            f"{target}: the repaired copy cannot be written there ({error.strerror}). Set "
            "CheckDataset.fix.dst_dir to a folder that can be written."
        ) from error
    with fresh_folder(target) as new:
        (new / "annotations").mkdir()
        (new / "images").mkdir()
        for name in (BANDS_FILE, ERRORS_FILE):
            if (source := image_dir.with_name(name)).is_file():
                write_bytes(new / name, source.read_bytes())  # not linked: the user may edit it
        for draft in drafts:
            write_document(draft.current(), new / "annotations" / draft.path.name)
            for slot in draft.records("images"):
                if isinstance(slot.after.get("file_name"), str):
                    name = slot.after["file_name"]
                    _share_image(image_dir, draft.image_files.get(name, name), new / "images", name)
            for name in draft.spare_images:
                _share_image(image_dir, name, new / "images", name)
        write_document(log, new / LOG_NAME)


def _share_image(source_dir: Path, source_name: str, target_dir: Path, target_name: str) -> None:
    try:
        source, target = image_path(source_dir, source_name), image_path(target_dir, target_name)
    except DatasetError:
        return  # only a person can repair this record
    if os.path.isfile(source) and not os.path.exists(target):  # a name may be too long
        link_or_copy(source, target)


def write_document(document: Any, path: Path) -> None:
    """Write JSON in the format of the annotation files of a repaired copy."""
    write_json(path, document, indent=None)
