"""Mode label_review: which labels may be wrong, as LabelMe files to correct, and the corrections back."""

import logging
from pathlib import Path
from typing import Any

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.edit import edit_annotations
from paddlex_seg.data.coco.read import read_text
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.evaluation.label_review import KINDS, SUSPECT_NAMES, review_labels
from paddlex_seg.evaluation.review_files import FOLDER, REVIEW_FILE, read_edits, write_review
from paddlex_seg.files.checksum import sha256_of_bytes
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import publish
from paddlex_seg.modes.detections import TruthFile, detections_of_file, truth_of

LOGGER = logging.getLogger(__name__)


def run(cfg: Config) -> dict[str, Any]:
    """Write ``label_review/`` into ``Global.output``; with ``LabelReview.apply``, read it back.

    The labels are those of ``Evaluate.split`` of ``Global.dataset_dir``, or ``Evaluate.annotations``.
    """
    truth, folder = truth_of(cfg), Path(cfg.Global.output) / FOLDER
    return _apply(truth, folder) if cfg.LabelReview.apply else _review(cfg, truth, folder)


def _review(cfg: Config, truth: TruthFile, folder: Path) -> dict[str, Any]:
    found = detections_of_file(_predictions(cfg), truth)
    if not found.has_masks:
        raise DatasetError(
            f"{_predictions(cfg)} has boxes only; a review of masks needs detections with masks."
        )
    ids = [category.id for category in found.categories]
    suspects = review_labels(truth.coco, found.results, ids)
    kept = suspects[: cfg.LabelReview.max_suspects]
    missing = write_review(
        folder,
        truth.coco,
        found.results,
        kept,
        image_dir=truth.image_dir,
        bands=None if truth.image_dir is None else find_bands(cfg, truth.image_dir.parent),
    )
    counts = {kind: sum(one.kind == kind for one in kept) for kind in KINDS}
    for kind, number in counts.items():
        LOGGER.info("%s: %d", SUSPECT_NAMES[kind], number)
    if missing:
        LOGGER.warning(
            "%d images were not found, so LabelMe cannot show them; the first is %s", len(missing), missing[0]
        )
    LOGGER.info(
        "%d of %d suspects are in %s. Open it with: labelme %s. Correct the labels; take the ? away from "
        "proposals that are right. Then run this command again with -o LabelReview.apply=True",
        *(len(kept), len(suspects), folder, folder),
    )
    return {
        "review": str(folder),
        "suspects": len(kept),
        "suspects_left_out": len(suspects) - len(kept),
        "kinds": counts,
        "missing_images": missing,
        **found.description,
        "data": truth.description,
    }


def _predictions(cfg: Config) -> Path:
    if cfg.LabelReview.predictions is not None:
        return Path(cfg.LabelReview.predictions)
    output = Path(cfg.Global.output)
    names = (f"segm_{cfg.Evaluate.split}.json", "segm.json")
    for name in names if cfg.Evaluate.annotations is None else names[1:]:
        if (output / name).is_file():
            return output / name
    raise ConfigError(
        f"LabelReview.predictions is null, and {output} has no detections of mode evaluate (segm.json) or "
        f"folds ({names[0]}). Run one of them first, or name a file of detections."
    )


def _apply(truth: TruthFile, folder: Path) -> dict[str, Any]:
    path = truth.coco.path
    edits = read_edits(folder, truth.coco)
    content = path.read_bytes()
    text, encoding = read_text(path)
    mark = content[: len(content) - len(text.encode(encoding))] if encoding == "utf-8" else b""
    new = mark + edit_annotations(text, changed=edits.changed, added=edits.added).encode(encoding)
    if new != content and (edits.changed or edits.added):
        # The review comes first: it then knows both files, whichever is there after a kill.
        edits.review["sha256"].append(sha256_of_bytes(new))
        write_json(folder / REVIEW_FILE, edits.review)
        publish(path.parent, {path: new})
    removed = sum(change is None for change in edits.changed.values())
    counts = {
        "files_changed": edits.num_read,
        "files_removed": edits.num_removed,
        "annotations_changed": len(edits.changed) - removed,
        "annotations_removed": removed,
        "annotations_added": len(edits.added),
    }
    LOGGER.info(
        "%s: %d annotations changed, %d removed, %d added, from %d files that were edited.",
        *(path, len(edits.changed) - removed, removed, len(edits.added), edits.num_read),
    )
    return {"annotations": str(path), **counts}
