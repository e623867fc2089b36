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
    "classes_guessed": Kind(
        "warning",
        "There is no list of classes, so the classes were guessed.",
        "Write the names of the classes into a list, and convert again.",
    ),
    "mask_class_missing": Kind(
        "error",
        "There are masks of objects, but no masks of classes, so the class of each object is unknown.",
        "Export the masks of classes too. If all objects are of one class, copy JPEGImages to images and "
        "SegmentationObject to masks in a new folder, and convert that folder as MaskPNG.",
    ),
    "mask_void_only": Kind(
        "warning",
        "Masks of objects have no other value than 255. In Pascal VOC this means 'not labelled'.",
        "If white means an object, give each object a number of its own, 1, 2, 3 and so on.",
    ),
    "mask_class_without_object": Kind(
        "warning",
        "A mask of classes has pixels of a class where the mask of objects has no object. These pixels are "
        "in no "
        "object.",
        "Nothing to do if they are regions such as sky or road. Otherwise export the masks of objects again.",
    ),
    "mask_interpolated": Kind(
        "error",
        "A mask of numbers was smoothed or saved as JPEG. The values along its edges mean nothing, so the "
        "image was left out.",
        "Save the mask again as PNG. Resize masks with nearest neighbour only.",
    ),
    "mask_soft_edges": Kind(
        "warning",
        "A mask of one object has gray values between black and white. Pixels from 128 on were taken.",
        "Save masks as PNG with black and white only.",
    ),
    "mask_several_pieces": Kind(
        "warning",
        "One value of a mask covers several separate pieces. They became one object. This is how masks look "
        "that show classes, not objects.",
        "If the pieces are objects of their own, give each of them its own number, or its own mask file.",
    ),
    "mask_names_matched": Kind(
        "info",
        "Masks have other names than their images, such as p0_mask.png for p0.jpg. Each mask fits exactly "
        "one "
        "image.",
        "Nothing to do if the pairs in the message are right.",
    ),
    "mask_colours": Kind(
        "info",
        "Masks are colour images. Each colour became one object.",
        "Check the number of objects. If colours mean classes, convert as VOC with masks of objects.",
    ),
    "mask_picture": Kind(
        "info",
        "Pictures that show classes or cutouts lie beside the annotations. They were not read as masks of "
        "objects.",
        "Nothing to do.",
    ),
    "source_unlisted": Kind(
        "warning",
        "Annotated files of the source are in none of its lists, so they were not converted. This happens "
        "when "
        "more images are annotated after the lists were written.",
        "Add their lines to the list of a split. To have everything split anew, give the list files other "
        "names, "
        "such as old_train_anno_list.txt, and convert again.",
    ),
    "list_entry_missing": Kind(
        "error",
        "An entry of a list of images or annotations leads nowhere, or to a place without images. Nothing "
        "else "
        "was taken in its place.",
        "Correct the entry, or put the files where it leads.",
    ),
    "source_shared": Kind(
        "error",
        "Two annotation files are for one image, or two images share one annotation file. Objects were not "
        "merged.",
        "Leave one annotation file for each image. Put all objects of an image into that file.",
    ),
    "image_without_labels": Kind(
        "info",
        "Images without a label file are used as background images.",
        "Check that these images show no object of a class of interest.",
    ),
}
