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
    "annotation_file_unused": Kind(
        "warning",
        "An annotation file of the export was not converted, because another file is for the same images.",
        "Move the file that you do not want out of the folder, and convert again.",
    ),
    "category_left_out": Kind(
        "info",
        "The tool lists a class for its own use, without annotations: Roboflow the name of the project, "
        "others "
        "the background. It was left out, because a model would have a class without any objects.",
        "Nothing needs to be done.",
    ),
    "image_name_differs": Kind(
        "warning",
        "The annotation file calls an image in another way than the file is called. Only one file can be "
        "meant; "
        "it was used.",
        "Check that it is the right image.",
    ),
    "conversion_empty": Kind(
        "error",
        "The conversion found no image that it could convert. Nothing was written.",
        "The other findings say why. Export again together with the images.",
    ),
    "split_divided": Kind(
        "info",
        "The source has no val split, so its images were divided into train and val.",
        "Set CheckDataset.split to choose the shares, or give the source a val split.",
    ),
}
