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
        "The JSON is not a COCO file with masks: its top level is not an object with images, annotations and "
        "categories, or it is for another task, such as captions, key points or panoptic segmentation.",
        "Export in COCO format with masks, or convert with CheckDataset.convert.",
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
        "Width and height are read from the image file. A file_name that is not UTF-8 becomes text.",
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
        "The annotation file is UTF-16 or UTF-32 text. It was read; other tools may fail.",
        "Save the file as UTF-8, as CheckDataset.fix does.",
    ),
    "annotation_file_twin": Kind(
        "warning",
        "There are two annotation files for one split, such as instance_train.json and instances_train.json. "
        "Only the first is used.",
        "Move the file that is out of date to another folder.",
    ),
    "json_encoding_guessed": Kind(
        "warning",
        "The annotation file is not UTF-8, and nothing in it says what encoding it has. It was read as GBK, "
        "which most texts in Chinese are. Text in another encoding, such as Big5 or Shift-JIS, then becomes "
        "wrong characters.",
        "Read the sample. If it is right, save the file as UTF-8, as CheckDataset.fix does; if it is wrong, "
        "save the file as UTF-8 with an editor that lets you choose the encoding, or export again.",
    ),
}
