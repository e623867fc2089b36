"""Kinds of findings about boxes, areas and flags."""

from paddlex_seg.data.finding_kinds.kind import Kind

NUMBERS: dict[str, Kind] = {
    "bbox_missing": Kind(
        "warning",
        "An annotation has no box. This toolkit computes it from the mask, other tools fail.",
        "Nothing to do, unless you use such tools.",
        "The box is computed from the mask.",
    ),
    "bbox_zero": Kind(
        "warning",
        "A box has zero width or height. This toolkit computes the box from the mask, other tools drop the "
        "object.",
        "Check that the annotation is correct.",
        "The box is computed from the mask.",
    ),
    "bbox_negative": Kind(
        "warning",
        "A box has a negative width or height. It may contain corners instead of a size, or swapped corners.",
        "Write [x, y, width, height].",
        "The box is computed from the mask.",
    ),
    "bbox_mismatch": Kind(
        "warning",
        "A box does not fit its mask. One of them was moved, or the box is written as [x1, y1, x2, y2].",
        "Check in the report which of them is right, and correct the other one.",
        "The box is computed from the mask.",
    ),
    "area_missing": Kind(
        "warning",
        "Annotations have no area. This toolkit computes it from the mask, other tools fail.",
        "Nothing to do, unless you use such tools.",
        "The area is computed from the mask.",
    ),
    "area_mismatch": Kind(
        "warning",
        "The area of annotations differs from the area of their masks. Evaluation uses area to sort "
        "objects into small, medium and large.",
        "Let CheckDataset.fix compute the area from the mask.",
        "The area is computed from the mask.",
    ),
    "area_of_box": Kind(
        "warning",
        "The area of annotations is the area of their boxes, as in Roboflow exports. Evaluation uses area "
        "to sort objects into small, medium and large.",
        "Let CheckDataset.fix compute the area from the mask.",
        "The area is computed from the mask.",
    ),
    "crowd": Kind(
        "info",
        "Crowd annotations (iscrowd 1) are not used for training. In evaluation, detections inside them do "
        "not count as false positives.",
        "Nothing to do.",
    ),
    "annotation_duplicate": Kind(
        "warning",
        "Two annotations of one image have the same class and mask. The object counts twice.",
        "Keep only one of them.",
    ),
}
