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
        "The polygon is removed if the annotation has other polygons. Otherwise the annotation is removed, "
        "but only if its box has no area either.",
    ),
    "polygon_odd": Kind(
        "error",
        "A polygon has an odd number of coordinates. It is unknown which one is missing.",
        "Export the annotation again, or draw it again.",
        "The last number is removed if box and area prove that it is too much.",
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
        "The polygon is removed if the annotation has other polygons. Otherwise the annotation is removed, "
        "but only if its box does not say that there is an object.",
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
        "The annotation is removed, but only if its box does not say that there is an object.",
    ),
    "rle_size_mismatch": Kind(
        "error",
        "The size of an RLE differs from the size of its image.",
        "Correct the size of the image in the annotation file, or export the mask again.",
        "The size is corrected if the box proves how the counts fit the image, such as with swapped sides.",
    ),
    "rle_damaged": Kind(
        "error",
        "An RLE cannot be decoded, or the sum of its runs differs from its size.",
        "Export the mask again.",
        "The last run is added if box and area prove that only this run, of background, is missing.",
    ),
    "polygon_points": Kind(
        "error",
        "A polygon is a list of points, such as pairs [[x, y], [x, y], ...], not one list of numbers.",
        "Write [[x1, y1, x2, y2, ...]].",
        "The points are written as one list of numbers.",
    ),
    "polygon_nested": Kind(
        "error",
        "A list of polygons has one level of lists too many.",
        "Write [[x1, y1, x2, y2, ...]].",
        "The level is removed.",
    ),
    "polygon_is_box": Kind(
        "error",
        "A polygon has only 4 numbers. They are a box or two points, and enclose nothing as a polygon.",
        "Draw the outline. If a rectangle is meant, write its corners, [[x1, y1, x2, y1, x2, y2, x1, y2]].",
    ),
    "segmentation_text": Kind(
        "error",
        "A mask, or its numbers, are text.",
        "Write lists of numbers.",
        "Numbers and lists are written as such.",
    ),
    "rle_size_missing": Kind(
        "error",
        "A mask is RLE counts without the size of the mask.",
        'Write {"size": [height, width], "counts": [...]}, or export the mask again.',
        "The size of the image is added if the counts fit it in one way only. The box must not contradict.",
    ),
    "rle_form": Kind(
        "error",
        "An RLE has size or counts in another form than COCO's, such as text, decimal numbers or a list in a "
        "list.",
        'Write {"size": [height, width], "counts": [...]}, or export the mask again.',
        "It is written in COCO's form.",
    ),
    "coordinates_normalised": Kind(
        "error",
        "The coordinates of masks look normalised: they are between 0 and 1, not in pixels.",
        "Multiply x by the width and y by the height of the image. CheckDataset.fix.enable=True does so.",
        "The coordinates are multiplied by width and height of the image.",
    ),
    "coordinates_percent": Kind(
        "error",
        "The coordinates of a mask are in percent of the image, as in Label Studio's JSON: its box proves "
        "it.",
        "Multiply x by the width and y by the height of the image, and divide by 100. "
        "CheckDataset.fix.enable=True does so.",
        "The coordinates are converted to pixels.",
    ),
    "repair_removed_much": Kind(
        "error",
        "The repair removed more than 5 percent of the objects or of the images.",
        "Look at the removed records in the log of the repair, and correct them in the data set. If they may "
        "go, set CheckDataset.fix.allow_loss=True.",
    ),
}
