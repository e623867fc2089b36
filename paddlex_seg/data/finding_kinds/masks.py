"""Kinds of findings about masks."""

from paddlex_seg.data.finding_kinds.kind import Kind

MASKS: dict[str, Kind] = {
    "segmentation_missing": Kind(
        "error",
        "An annotation has no mask, only a box.",
        "Draw the mask, or remove the annotation.",
    ),
    "segmentation_empty": Kind(
        "error",
        "An annotation has an empty list as its mask.",
        "Draw the mask, or remove the annotation.",
    ),
    "segmentation_invalid": Kind(
        "error",
        "A mask is neither a list of polygons nor an RLE.",
        "Export the annotation again.",
    ),
    "polygon_flat_list": Kind(
        "error",
        "A polygon is not inside a list of polygons.",
        "Write [[x1, y1, x2, y2, ...]].",
        "The polygon is put into a list.",
    ),
    "polygon_too_few_points": Kind(
        "error",
        "A polygon has fewer than three points, so it encloses no area.",
        "Draw it again, or remove it.",
        "The polygon is removed. If the annotation has no other polygon, it is removed too.",
    ),
    "polygon_odd": Kind(
        "error",
        "A polygon has an odd number of coordinates. It is unknown which one is missing.",
        "Export the annotation again, or draw it again.",
    ),
    "polygon_nan": Kind(
        "error",
        "A polygon has values that are not pixel coordinates: not a number, NaN, infinite, or beyond a "
        "million.",
        "Export the annotation again, or draw it again.",
    ),
    "polygon_zero_area": Kind(
        "warning",
        "All points of a polygon lie on one line or on one point, so it encloses no area.",
        "Draw it again, or remove it.",
        "The polygon is removed. If the annotation has no other polygon, it is removed too.",
    ),
    "polygon_self_intersecting": Kind(
        "warning",
        "A polygon crosses itself. Tools disagree on which parts of it are inside.",
        "Check the drawn mask in the report. Draw the polygon again if the mask is wrong.",
    ),
    "polygon_outside": Kind(
        "warning",
        "A polygon extends more than one pixel beyond the image. The part outside is cut off.",
        "Nothing to do if the image border cuts the object. Otherwise check whether the image was resized "
        "after labelling.",
        "The part outside is cut off.",
    ),
    "mask_empty": Kind(
        "warning",
        "A mask covers no pixel of its image, because it is too small or outside the image. The object is "
        "not used.",
        "Remove the annotation, or draw it again.",
        "The annotation is removed.",
    ),
    "rle_size_mismatch": Kind(
        "error",
        "The size of an RLE differs from the size of its image.",
        "Correct the size of the image in the annotation file, or export the mask again.",
    ),
    "rle_damaged": Kind(
        "error",
        "An RLE cannot be decoded, or the sum of its runs differs from its size.",
        "Export the mask again.",
    ),
}
