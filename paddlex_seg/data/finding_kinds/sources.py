"""Kinds of findings about data sets in other formats."""

from paddlex_seg.data.finding_kinds.kind import Kind

SOURCES: dict[str, Kind] = {
    "source_unreadable": Kind(
        "error",
        "A file in the source format cannot be read. All other files were converted.",
        "Correct the file or move it out of the folder, and convert again.",
    ),
    "shape_unusable": Kind(
        "error",
        "A shape has a wrong number of points or invalid values. The other shapes of its file were "
        "converted.",
        "Draw the shape again.",
    ),
    "shape_without_area": Kind(
        "warning",
        "A point or a line has no area, so it cannot become an instance. It was skipped.",
        "Draw a polygon. Ignore this if the shape is only a note.",
    ),
    "label_unknown": Kind(
        "error",
        "A label is not in the list of classes. Shapes with this label were skipped.",
        "Correct the label, or add it to the list.",
    ),
    "mask_approximated": Kind(
        "warning",
        "The target format cannot store this mask, because it has holes or several parts. An approximation "
        "was written.",
        "Keep the original annotations, or choose a format that stores masks.",
    ),
}
