"""Images of the pages of an evaluation and a comparison: panels with layers to show and hide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.masks.rle import rle_boxes_xywh
from paddlex_seg.reports.drawings import Drawing, draw, whole
from paddlex_seg.reports.evaluation_records import ComparedImage, DrawnImage, DrawnMask, Suspicion
from paddlex_seg.reports.text import counted, shorten
from paddlex_seg.reports.windows import window_around
from paddlex_seg.structures import Bands, ImageRecord

_SIDE, _BYTES = 960, 120_000  # of the JPEG of an image: longer side in pixels, most bytes
_CROP_SIDE, _CROP_BYTES = 320, 24_000
_LONGEST_NAME = 90

_TOGGLES = (
    ("image", "Image"),
    ("truth", "Objects"),
    ("found", "Detections"),
    ("right", "Right"),
    ("wrong", "Mistakes"),
    ("names", "Names"),
    ("over", "Both in one"),
)
"""CSS classes and names of what can be shown and hidden."""
MASK_LEGEND = (
    ("truth right", "object, found"),
    ("truth wrong", "object, missed"),
    ("found right", "detection, right"),
    ("found wrong", "detection, false"),
    ("ignored", "ignored (crowd)"),
)
"""CSS classes and meanings of the colours of masks."""


@dataclass(frozen=True)
class Panel:
    """A view of an image with the masks of one side."""

    name: str
    text: str  # "12 objects, 3 missed"
    alt: str
    css: str  # "truth" or "found"
    over: tuple[int, ...]  # the panels whose masks are laid over these on request


@dataclass(frozen=True)
class Case:
    """An image of a page. The layers of its drawing are those of its panels."""

    number: int  # unique on the page
    file_name: str
    drawing: Drawing
    panels: tuple[Panel, ...]
    problem: str
    toggles: tuple[tuple[str, str], ...] = _TOGGLES


@dataclass(frozen=True)
class Crop:
    """A label to review."""

    suspicion: Suspicion
    drawing: Drawing
    file_name: str
    problem: str


def image_case(number: int, image: DrawnImage, image_dir: Path | None, bands: Bands | None) -> Case:
    """An image of an evaluation."""
    panels = (_truth_panel(image.truth, (1,)), _found_panel("Detections", image.found, image.score))
    return _case(number, image, (image.truth, image.found), panels, image_dir, bands)


def compared_case(
    number: int, image: ComparedImage, names: Sequence[str], image_dir: Path | None, bands: Bands | None
) -> Case:
    """An image of a comparison. names: of the models."""
    panels = [_truth_panel(image.truth, ())]
    scores = image.scores or [None] * len(names)
    panels += [_found_panel(*of_model) for of_model in zip(names, image.found, scores, strict=True)]
    return _case(number, image, (image.truth, *image.found), panels, image_dir, bands)


def review_crop(suspicion: Suspicion, image_dir: Path | None, bands: Bands | None) -> Crop:
    """The label and the proposal with their surroundings."""
    masks = [item for item in (suspicion.truth, suspicion.proposal) if item is not None]
    boxes = [box for box in rle_boxes_xywh([item.mask for item in masks]).tolist() if max(box[2:]) > 0]
    layers = [[item] if item is not None else [] for item in (suspicion.truth, suspicion.proposal)]
    drawing = draw(
        _record(suspicion),
        window_around(boxes, suspicion.width, suspicion.height),
        layers,
        image_dir=image_dir,
        side=_CROP_SIDE,
        max_bytes=_CROP_BYTES,
        bands=bands,
        labelled=False,
    )
    return Crop(suspicion, drawing, shorten(suspicion.file_name, _LONGEST_NAME), _problem(drawing, image_dir))


def _case(
    number: int,
    image: DrawnImage | ComparedImage,
    layers: Sequence[Sequence[DrawnMask]],
    panels: Sequence[Panel],
    image_dir: Path | None,
    bands: Bands | None,
) -> Case:
    record = _record(image)
    drawing = draw(
        record, whole(record), layers, image_dir=image_dir, side=_SIDE, max_bytes=_BYTES, bands=bands
    )
    return Case(
        number,
        shorten(image.file_name, _LONGEST_NAME),
        drawing,
        tuple(panels),
        _problem(drawing, image_dir),
    )


def _record(image: DrawnImage | ComparedImage | Suspicion) -> ImageRecord:
    return ImageRecord(0, image.file_name, image.width, image.height)


def _truth_panel(truth: Sequence[DrawnMask], over: tuple[int, ...]) -> Panel:
    missed = sum(item.state == "wrong" for item in truth)
    text = counted(len(truth), "object") + (f", {missed} missed" if missed else "")
    return Panel("Annotated", text, f"Annotated objects: {text}", "truth", over)


def _found_panel(name: str, found: Sequence[DrawnMask], score: float | None) -> Panel:
    false = sum(item.state == "wrong" for item in found)
    text = f"{len(found)} found" + (f", {false} false" if false else "")
    text += "" if score is None else f", F1 {score:.2f}"
    return Panel(name, text, f"{shorten(name, 60)}: {text}", "found", (0,))


def _problem(drawing: Drawing, image_dir: Path | None) -> str:
    if not drawing.fits:
        return "The image file has another size than the annotation file says. Masks are not drawn."
    if drawing.image is None:
        return "The image file cannot be read." if image_dir is not None else "There are no image files."
    hidden = sum(layer.total - len(layer.outlines) for layer in drawing.layers)
    return f"{counted(hidden, 'mask')} of this image are not drawn." if hidden else ""
