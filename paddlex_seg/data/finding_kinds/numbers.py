"""Kinds of findings about boxes, areas and flags."""

from paddlex_seg.data.finding_kinds.kind import Kind

NUMBERS: dict[str, Kind] = {
    "bbox_missing": Kind(
        "warning",
        "An annotation has no box, or one that is not four numbers. This toolkit computes it from the mask, "
        "other tools fail.",
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
        "A box does not fit its mask. One of them was moved, or the box is written as [x1, y1, x2, y2]. "
        "If it is more than 5 % off, this toolkit uses the box of the mask.",
        "Check in the report which of them is right, and correct the other one.",
        "The box is computed from the mask.",
    ),
    "area_missing": Kind(
        "warning",
        "Annotations have no area, or one that is not a number. This toolkit computes it from the mask, "
        "other tools fail.",
        "Nothing to do, unless you use such tools.",
        "The area is computed from the mask.",
    ),
    "area_mismatch": Kind(
        "warning",
        "The area of annotations differs from the area of their masks. Tools use it to sort objects into "
        "small, medium and large. If it is more than 5 % off, this toolkit uses that of the mask.",
        "Let CheckDataset.fix compute the area from the mask.",
        "The area is computed from the mask.",
    ),
    "area_of_box": Kind(
        "warning",
        "The area of annotations is the area of their boxes, as in Roboflow exports. Tools use it to sort "
        "objects into small, medium and large. This toolkit uses that of the mask.",
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
    "number_is_text": Kind(
        "warning",
        'A number is written as text, such as "96". It is read as the number, other tools fail.',
        "Write numbers without quotes.",
        "It is written as a number.",
    ),
    "bbox_rounded": Kind(
        "info",
        "Boxes of small objects are a pixel or two off their masks, which is more than 5 % of these objects. "
        "Evaluation uses the boxes of the masks.",
        "Nothing to do.",
    ),
    "area_rounded": Kind(
        "info",
        "Areas of small objects differ from those of their masks by a few pixels, which is more than 5 %. "
        "Evaluation uses the areas of the masks.",
        "Nothing to do.",
    ),
    "split_all_crowd": Kind(
        "error",
        "All objects of a split are crowds (iscrowd 1), which are groups that cannot be told apart. There is "
        "nothing to learn from or to evaluate with. CVAT writes iscrowd 1 for every mask drawn with a brush.",
        "If each annotation is one object, write iscrowd 0 in the file, or convert the masks to polygons in "
        "the annotation tool and export again. Otherwise annotate single objects.",
    ),
}
