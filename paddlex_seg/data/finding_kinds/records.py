"""Kinds of findings about ids, names and references."""

from paddlex_seg.data.finding_kinds.kind import Kind

RECORDS: dict[str, Kind] = {
    "image_id_duplicate": Kind(
        "error",
        "Two images have the same id, so it is unknown which image an annotation belongs to.",
        "Give each image a unique id.",
        "If it is the same record again, it is removed.",
    ),
    "file_name_duplicate": Kind(
        "error",
        "An image is listed twice. Each entry lacks the annotations of the other one, so training treats "
        "those objects as background.",
        "List the image once, with all its annotations.",
        "The entries are merged into one with all annotations.",
    ),
    "annotation_id_duplicate": Kind(
        "error",
        "Two annotations have the same id. Evaluation would lose one of them.",
        "Give each annotation a unique id.",
        "The later annotation gets a new id. If it is the same record again, it is removed.",
    ),
    "category_id_duplicate": Kind(
        "error",
        "Two categories have the same id.",
        "Give each category a unique id.",
        "If both also have the same name, one of them is removed.",
    ),
    "category_name_duplicate": Kind(
        "error",
        "Two categories have the same name. The model treats them as two classes, but results show one name.",
        "Merge or rename them.",
        "They are merged into one category with the id of the first.",
    ),
    "image_id_dangling": Kind(
        "error",
        "An annotation has an image_id that is not in the list of images.",
        "Add the image to the list, or correct the image_id. Remove the annotation if its image is gone.",
        "The name or the padded number of one image is replaced by its id.",
    ),
    "category_id_dangling": Kind(
        "error",
        "An annotation has a category_id that is not in the list of categories.",
        "Add the category to the list, or correct the annotation.",
        "The name or the padded number of one category is replaced by its id.",
    ),
    "categories_differ_names": Kind(
        "error",
        "Train and val use the same category id for different class names. Evaluation would compare a "
        "class with the masks of another class.",
        "Use the categories of the train file in both files.",
        "Both files get one common list. Categories are matched by name.",
    ),
    "categories_differ_ids": Kind(
        "error",
        "A category is in one of train and val, but not in the other.",
        "Use the categories of the train file in both files.",
        "Both files get one common list. Categories are matched by name.",
    ),
    "categories_differ_order": Kind(
        "error",
        "Train and val list the categories in different orders. The class index is the position in this "
        "list.",
        "Use the categories of the train file in both files.",
        "Val gets the order of train.",
    ),
    "class_only_in_val": Kind(
        "warning",
        "A class has annotations in val, but none in train. The model cannot learn it, and its AP lowers "
        "the mean AP.",
        "Split again with CheckDataset.split, which is stratified, or label training images of this class.",
    ),
    "class_without_instances": Kind(
        "info",
        "A class has no annotations.",
        "Remove the class if you will not label it.",
    ),
    "category_dummy": Kind(
        "warning",
        "An unused category that is only the supercategory of others, as in Roboflow exports. The model "
        "would have a class without any objects.",
        "Remove it from the categories of both files.",
        "It is removed from both files.",
    ),
    "id_is_text": Kind(
        "warning",
        'An id is a whole number written as text, such as "12". It is read as the number. Other tools may '
        "find no image or class for it.",
        "Write the id without quotes.",
        "The id is written as a number.",
    ),
    "id_rounded": Kind(
        "warning",
        "A large id is written as a decimal number, such as 1.2e18, whose last digits may be lost. Different "
        "ids may have become equal.",
        "Export the annotations again with whole numbers or text as ids.",
    ),
    "category_names_alike": Kind(
        "warning",
        "Names of categories differ only in blanks, in upper and lower case, or in the form of characters. "
        "The model treats them as different classes.",
        "Rename or merge them, if they mean the same class.",
    ),
    "category_background": Kind(
        "warning",
        "A category is the background and has no annotations, as in exports of X-AnyLabeling. The model "
        "would have a class without any objects; it needs none for the background.",
        "Remove it from the categories of all files.",
        "It is removed from all files.",
    ),
    "category_background_used": Kind(
        "warning",
        "A category is the background and has annotations. The model learns it as a class of objects.",
        "Remove the category and its annotations, unless it is meant as a class.",
    ),
    "category_name_number": Kind(
        "warning",
        "The name of a category is a number, such as 1. It is read as its text; other tools may fail.",
        "Write the name in quotes.",
        "The name is written as text.",
    ),
}
