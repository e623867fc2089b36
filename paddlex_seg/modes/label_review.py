"""Mode label_review: labels that may be wrong, as LabelMe files to correct, and the corrections read back."""

import csv
import io
import logging
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.coco.edit import AnnotationFile
from paddlex_seg.data.formats.labelme.review import Question, question_mark, shapes_to_review
from paddlex_seg.data.formats.labelme.write import labelme_text
from paddlex_seg.data.image_facts import inspect_image
from paddlex_seg.data.images import image_path, load_image
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.evaluation.label_review import KINDS, SUSPECT_NAMES, Suspect, review_labels
from paddlex_seg.files.atomic import link_or_copy, write_bytes, write_text
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.images import encode_image
from paddlex_seg.files.json import write_json
from paddlex_seg.files.publish import fresh_folder
from paddlex_seg.inference.outputs.labelme import SHOWN_BY_LABELME
from paddlex_seg.inference.outputs.table import without_formula
from paddlex_seg.masks.polygons import rle_to_polygons
from paddlex_seg.modes.detections import TruthFile, detections_of_file, truth_of
from paddlex_seg.modes.label_corrections import REVIEW, apply_corrections
from paddlex_seg.structures import Bands, Id, ImageRecord, Instances

LOGGER = logging.getLogger(__name__)
FOLDER, LIST = "label_review", "review.csv"
_COLUMNS = (
    *("rank", "kind", "score", "image", "image_id", "annotation_id", "label", "proposal", "file", "reason"),
)
# What to do about a suspect, behind the reason.
_ADVICE = {
    "missed": "To add the object, rename {proposal}. Else leave it.",
    "wrong_class": "Rename it to the right class. If it is right, leave it.",
    "loose_mask": "Move its corners, or rename {proposal} to take the mask of the model. Else leave both.",
    "duplicate": "If it is a second label of one object, remove the shape. Else leave it.",
    "spurious": "If there is no such object, remove the shape. Else leave it.",
}


@dataclass(frozen=True)
class _Place:
    """Where the LabelMe file of an image is, and its image."""

    name: str
    image: Path


def run(cfg: Config) -> dict[str, Any]:
    """Compare labels with the detections in ``LabelReview.predictions``, or read a review back.

    The annotations are those of ``Evaluate.split`` of the data set, or ``Evaluate.annotations``. Writes the
    folder ``label_review`` into ``Global.output``: `review.json`, `review.csv`, and for each suspicious image
    a LabelMe file and a link to the image. With ``LabelReview.apply``, the annotation file is changed.
    """
    if cfg.LabelReview.apply is not None:
        return apply_corrections(Path(cfg.LabelReview.apply))
    truth = truth_of(cfg)
    path = _predictions(cfg)
    found = detections_of_file(path, truth)
    if not found.has_masks and found.results:
        raise DatasetError(f"{path}: the file has boxes only. The review needs masks (segmentation).")
    ids = [category.id for category in found.categories]
    suspects = review_labels(truth.coco, found.results, ids)
    shown = suspects[: cfg.LabelReview.max_suspects]
    folder = Path(cfg.Global.output) / FOLDER
    bands = None if truth.image_dir is None else find_bands(cfg, truth.image_dir.parent)
    places = _write(folder, truth, found.results, shown, path, bands)
    counts = Counter(one.kind for one in shown)
    _say(folder, suspects, shown, places, counts)
    return {
        "suspects": len(shown),
        "suspects_left_out": len(suspects) - len(shown),
        "kinds": {kind: counts[kind] for kind in KINDS},
        "images": len(places),
        "images_not_found": len({one.image_id for one in shown}) - len(places),
        "folder": str(folder),
        **found.description,
        "data": truth.description,
        **({"notes": list(found.notes)} if found.notes else {}),
    }


def _predictions(cfg: Config) -> Path:
    """The file of detections: the one that is set, that of mode folds, or that of mode evaluate."""
    if cfg.LabelReview.predictions is not None:
        return Path(cfg.LabelReview.predictions)
    output = Path(cfg.Global.output)
    names = [f"segm_{cfg.Evaluate.split}.json"] * (cfg.Evaluate.annotations is None) + ["segm.json"]
    for name in names:
        if (output / name).is_file():
            return output / name
    raise ConfigError(
        f"LabelReview.predictions is null, and {output} has no {' and no '.join(names)}. Run mode folds or "
        "evaluate first, with the same Global.output, or set it to a file of detections."
    )


def _say(
    folder: Path,
    suspects: Sequence[Suspect],
    shown: Sequence[Suspect],
    places: Mapping[Id, _Place],
    counts: Counter[Any],
) -> None:
    if not suspects:
        LOGGER.info("No label is suspicious.")
        return
    parts = ", ".join(f"{counts[kind]} {SUSPECT_NAMES[kind]}" for kind in KINDS if counts[kind])
    LOGGER.info("%d suspects in %d images: %s.", len(shown), len({one.image_id for one in shown}), parts)
    if len(suspects) > len(shown):
        more = len(suspects) - len(shown)
        LOGGER.info("%d less suspicious ones were left out; LabelReview.max_suspects is the limit.", more)
    place = shlex.quote(str(folder))
    LOGGER.info("To correct them: labelme %s", place)
    LOGGER.info("Then write the corrections into the annotation file: -o LabelReview.apply=%s", place)
    missing = len({one.image_id for one in shown}) - len(places)
    if missing:
        LOGGER.warning(
            "%d images with suspects were not found, so they have no LabelMe file. %s lists them.",
            missing,
            folder / LIST,
        )


def _write(
    folder: Path,
    truth: TruthFile,
    results: Mapping[Id, Instances],
    suspects: Sequence[Suspect],
    predictions: Path,
    bands: Bands | None,
) -> dict[Id, _Place]:
    """Write the folder. Returns the places of the images that were found."""
    coco = truth.coco
    file = AnnotationFile(coco.path)
    records = {record.id: record for record in coco.images}
    names = {category.id: category.name for category in coco.categories}
    mark = question_mark(list(names.values()))
    questions = _questions(suspects, results, mark)
    places = _places(list(questions), records, truth.image_dir)
    of_image = defaultdict(list)
    for annotation in coco.annotations:
        of_image[annotation.image_id].append(annotation)
    with fresh_folder(folder) as new:
        images = []
        for image_id, place in places.items():
            record, own = records[image_id], questions[image_id]
            shapes, written = shapes_to_review(of_image[image_id], record, names, own, mark)
            text = labelme_text(
                shapes,
                image_path=_path_from(folder, place.image),
                size_hw=(record.height, record.width),
                embedded=None if _is_shown(place.image, record) else _as_png(place.image, record, bands),
            )
            write_text(new / place.name, text)
            link_or_copy(place.image, (new / place.name).with_suffix(place.image.suffix))
            images.append(
                {
                    "file": place.name,
                    "sha256": sha256_of(new / place.name),
                    "image_id": image_id,
                    "image": record.file_name,
                    "size_hw": [record.height, record.width],
                    "annotations": list(file.of_image(image_id).values()),
                    "shapes": [asdict(one) for one in written],
                    "proposals": {str(one.number): one.polygons for one in own if one.polygons},
                    "applied": [],
                }
            )
        rows = [
            _row(rank, one, records[one.image_id], places.get(one.image_id))
            for rank, one in enumerate(suspects, start=1)
        ]
        content = {
            "version": 1,
            "annotations": str(coco.path.resolve()),
            "predictions": str(predictions.resolve()),
            "mark": mark,
            "suspects": rows,
            "images": images,
            "given": {},
        }
        write_json(new / REVIEW, content, indent=1)
        write_bytes(new / LIST, _csv(rows))
    return places


def _questions(
    suspects: Sequence[Suspect], results: Mapping[Id, Instances], mark: str
) -> dict[Id, list[Question]]:
    """The questions about each image, the images with the most suspicious ones first."""
    questions: dict[Id, list[Question]] = defaultdict(list)
    for rank, one in enumerate(suspects, start=1):
        polygons: list[list[float]] = []
        if one.kind in ("missed", "loose_mask") and one.position is not None:
            polygons = rle_to_polygons(results[one.image_id].masks[one.position])
        advice = _ADVICE[one.kind].format(proposal=f"“{mark}{one.proposal}” to “{one.proposal}”")
        questions[one.image_id].append(
            Question(
                number=rank,
                kind=one.kind,
                text=f"{rank}. {SUSPECT_NAMES[one.kind]}: {one.reason} {advice}",
                annotation_id=one.annotation_id,
                asked=str(one.proposal) if one.kind == "wrong_class" else SUSPECT_NAMES[one.kind],
                proposal=str(one.proposal),
                polygons=polygons,
            )
        )
    return questions


def _places(
    image_ids: Sequence[Id], records: Mapping[Id, ImageRecord], image_dir: Path | None
) -> dict[Id, _Place]:
    """The files of the images that exist. They have the order of the review, also by name."""
    places: dict[Id, _Place] = {}
    if image_dir is None:
        return places
    digits = len(str(len(image_ids)))
    for number, image_id in enumerate(image_ids, start=1):
        try:
            image = image_path(image_dir, records[image_id].file_name)
        except DatasetError:
            continue
        if image.is_file():
            stem = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in image.stem)
            places[image_id] = _Place(f"{number:0{digits}}_{stem[:50]}.json", image)
    return places


def _path_from(folder: Path, image: Path) -> str:
    """The path of an image from the folder. Links are resolved, since ``..`` does not lead back over them."""
    place = image.parent.resolve() / image.name
    try:
        return os.path.relpath(place, folder.parent.resolve() / folder.name).replace(os.sep, "/")
    except ValueError:  # on another drive of Windows
        return str(place).replace(os.sep, "/")


def _is_shown(image: Path, record: ImageRecord) -> bool:
    """Whether LabelMe opens the image, and shows it with the pixels and the size that the labels are for."""
    facts = inspect_image(image, "header")
    return (
        image.suffix.lower() in SHOWN_BY_LABELME
        and facts.problem is None
        and not facts.traits
        and facts.shown_hw == (record.height, record.width)
    )


def _as_png(image: Path, record: ImageRecord, bands: Bands | None) -> bytes | None:
    """The image for LabelMe; None if it cannot be read."""
    try:
        pixels = load_image(image, (record.height, record.width), bands)
    except DatasetError as error:
        LOGGER.warning("%s", error)
        return None
    return encode_image(Image.fromarray(pixels), ".png", compress_level=1)


def _row(rank: int, suspect: Suspect, record: ImageRecord, place: _Place | None) -> dict[str, Any]:
    values = {
        "rank": rank,
        "kind": suspect.kind,
        "score": round(suspect.score, 4),
        "image": record.file_name,
        "image_id": suspect.image_id,
        "annotation_id": suspect.annotation_id,
        "label": suspect.label,
        "proposal": suspect.proposal,
        "file": None if place is None else place.name,
        "reason": suspect.reason,
    }
    return {name: values[name] for name in _COLUMNS}


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The list for a spreadsheet. Excel needs the mark at the beginning."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        cells = ("" if value is None else value for value in row.values())
        writer.writerow([without_formula(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode("utf-8-sig", "backslashreplace")
