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
        "others the background. It was left out, because a model would have a class without any objects.",
        "Nothing needs to be done.",
    ),
    "image_name_differs": Kind(
        "warning",
        "The annotation file calls an image in another way than the file is called. Only one file can be "
        "meant; it was used.",
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
        "in no object.",
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
        "A mask of one object has values along its edges between the background and the object, as smoothing "
        "makes them. Pixels of half the value of the object or more were taken.",
        "Save masks as PNG with black and white only. Resize masks with nearest neighbour only.",
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
        "one image.",
        "Nothing to do if the pairs in the message are right.",
    ),
    "mask_colours": Kind(
        "info",
        "Masks are colour images. Each colour became one object.",
        "Check the number of objects. If colours mean classes, convert as VOC with masks of objects.",
    ),
    "mask_not_read": Kind(
        "info",
        "Images that only show masks, such as pseudo colours or cutouts, lie beside the masks. They were not "
        "read.",
        "Nothing to do.",
    ),
    "source_unlisted": Kind(
        "warning",
        "Annotated files of the source are in none of its lists, so they were not converted. This happens "
        "when more images are annotated after the lists were written.",
        "Add their lines to the list of a split. To have everything split anew, give the list files other "
        "names, such as old_train_anno_list.txt, and convert again.",
    ),
    "list_entry_missing": Kind(
        "error",
        "An entry of a list of images or annotations leads nowhere, or to a place without images. Nothing "
        "else was taken in its place.",
        "Correct the entry, or put the files where it leads.",
    ),
    "test_entry_missing": Kind(
        "warning",
        "The entry for the test images leads nowhere. Some tools always write this entry. There is no test "
        "split.",
        "Ignore this if there are no test images. Otherwise correct the entry.",
    ),
    "source_shared": Kind(
        "error",
        "Two annotation files are for one image, or two images share one annotation file. Objects were not "
        "merged.",
        "Leave one annotation file for each image. Put all objects of an image into that file.",
    ),
    "source_repeated": Kind(
        "warning",
        "An annotation file is a copy of another one: the same image and the same shapes. It was used once.",
        "Move the copy out of the folder.",
    ),
    "image_path_differs": Kind(
        "error",
        "A LabelMe file has the name of one image, but its imagePath names another one. Both images exist, "
        "so it is unknown which of them the shapes are for. Usually images and files were renamed together "
        "and imagePath is out of date.",
        "Look at the shapes on both images. Then write the name of the right image into imagePath, and "
        "rename the file like the image.",
    ),
    "image_path_corrected": Kind(
        "warning",
        "A LabelMe file has the name of one image, but its imagePath names another one. The size in the file "
        "fits only the image of the same name, so the shapes were read for that image.",
        "Correct imagePath in the file.",
    ),
    "label_not_text": Kind(
        "warning",
        "A label is a number or another value that is not text. It was read as its text.",
        "Ignore this if the text is the right name of the class. Otherwise correct the labels.",
    ),
    "label_padded": Kind(
        "warning",
        "A label begins or ends with blanks. They were cut off, so the label is the same class as the label "
        "without blanks.",
        "Correct the label in the annotation tool.",
    ),
    "names_inconsistent": Kind(
        "warning",
        "The list of classes has gaps, repeated names or no names, or another length than it states.",
        "Correct the list, so that every class number of the labels has its own name.",
    ),
    "coordinates_scaled": Kind(
        "warning",
        "Coordinates of YOLO labels are in pixels or in percent, not divided by width and height. All lines "
        "agree in this, so they were read in that unit.",
        "Look at the drawn samples. Other programs need coordinates divided by width and height.",
    ),
    "coordinates_unclear": Kind(
        "error",
        "Coordinates of a YOLO label are not divided by width and height, and it is unclear what they mean. "
        "The lines were left out.",
        "Divide x by the width and y by the height of the image, or export the labels again.",
    ),
    "coordinates_as_text": Kind(
        "warning",
        "Coordinates of a shape are texts of numbers. They were read as these numbers.",
        "Ignore this, or write the coordinates as numbers, because other programs need them so.",
    ),
    "label_extra_number": Kind(
        "warning",
        "Each line of YOLO labels ends with one more whole number, such as a track number. It was left out.",
        "Ignore this if the last number is not a coordinate.",
    ),
    "label_misplaced": Kind(
        "error",
        "Images have no label file where it is expected, but there are label files of their names elsewhere. "
        "The images were read as background.",
        "Move the label files into the folders 'labels' that stand beside the folders 'images'.",
    ),
    "label_without_image": Kind(
        "error",
        "Label files have no image, so their objects were left out.",
        "Put the images into the folder, or move the label files out of it.",
    ),
    "image_without_labels": Kind(
        "info",
        "Images without a label file are used as background images.",
        "Check that these images show no object of a class of interest.",
    ),
    "source_unsupported": Kind(
        "warning",
        "Files of another annotation format are in the folder. They were not read.",
        "If they hold annotations that you need, export them in a supported format, such as COCO.",
    ),
    "source_skipped": Kind(
        "info",
        "JSON files in the folder are not annotations of a known format. They were not read.",
        "Ignore this if they are not annotations.",
    ),
    "label_spelling": Kind(
        "warning",
        "A label differs from the name in the list of classes only in upper and lower case, blanks or the "
        "form of characters, or the kind of a shape is written so. It was read as the listed one.",
        "Write the label and the list in the same way.",
    ),
    "object_mostly_unlabelled": Kind(
        "warning",
        "More than half of the pixels of an object have no class in the mask of classes. The object has the "
        "most frequent class of its other pixels.",
        "Check that both masks are of the same image, with the same outlines. Otherwise export both again.",
    ),
}
