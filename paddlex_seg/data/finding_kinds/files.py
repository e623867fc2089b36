"""Kinds of findings about the annotation file as a whole."""

from paddlex_seg.data.finding_kinds.kind import Kind

FILES: dict[str, Kind] = {
    "json_missing": Kind(
        "error",
        "The annotation file does not exist.",
        "Copy the annotation file there, or convert your annotations with CheckDataset.convert.",
    ),
    "json_unreadable": Kind(
        "error",
        "The annotation file cannot be read, has an unknown encoding, or is not valid JSON. Often a download "
        "or an export was interrupted.",
        "Export the annotations again.",
    ),
    "json_top_level": Kind(
        "error",
        "The top level of the JSON is not an object with images, annotations and categories. This is not a "
        "COCO file.",
        "Export in COCO format, or convert with CheckDataset.convert.",
    ),
    "key_missing": Kind(
        "error",
        "One of the lists images, annotations or categories is missing, or is not a list.",
        "Export the annotations again. Write an empty list as [].",
    ),
    "image_entry_invalid": Kind(
        "error",
        "An entry of images lacks id, file_name, width or height, or one of them has an invalid value.",
        "Correct the entry.",
        "Width and height are read from the image file.",
    ),
    "category_entry_invalid": Kind(
        "error",
        "An entry of categories lacks id or name, or one of them has an invalid value.",
        "Correct the entry.",
    ),
    "annotation_entry_invalid": Kind(
        "error",
        "An entry of annotations lacks id, image_id or category_id, or one of them has an invalid value.",
        "Correct the entry.",
        "An annotation without an id gets a new id.",
    ),
    "dataset_nested": Kind(
        "info",
        "The data set is in a subfolder of dataset_dir. This toolkit uses that subfolder. PaddleX would "
        "check the subfolder, but look for the data in another folder when training.",
        "Set Global.dataset_dir to the folder that contains images.",
    ),
    "split_without_images": Kind(
        "error",
        "A split has no images, so it cannot be used for training or evaluation.",
        "Add images, or split the data set again.",
    ),
    "split_without_annotations": Kind(
        "error",
        "A split has images, but no annotation with a non-empty mask. It cannot be used for training or "
        "evaluation. Polygon coordinates may be normalised to 0..1 instead of pixels.",
        "Annotate images, or split the data set again.",
    ),
    "json_encoding": Kind(
        "info",
        "The annotation file is not UTF-8. It was read in its own encoding; other tools may fail or show "
        "wrong names.",
        "Check the names of files and classes. Save the file as UTF-8, as CheckDataset.fix does.",
    ),
}
