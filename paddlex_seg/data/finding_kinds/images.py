"""Kinds of findings about image files and their records."""

from paddlex_seg.data.finding_kinds.kind import Kind

IMAGES: dict[str, Kind] = {
    "image_missing": Kind(
        "error",
        "A listed image file does not exist. It is searched by other names: without folders in front, in a "
        "sub-folder, with other upper and lower case, other Unicode forms, signs of a URL, or another "
        "ending.",
        "Copy the image file there, correct file_name, or remove the image from the annotation file.",
        "If exactly one file can be meant, file_name becomes its name. Otherwise the image and its "
        "annotations stay.",
    ),
    "image_empty_file": Kind(
        "error",
        "An image file is empty (0 bytes), usually because a copy failed.",
        "Copy the image file again, or remove the image from the annotation file.",
    ),
    "image_truncated": Kind(
        "error",
        "An image file is truncated. Its lower part is missing, and most readers fail.",
        "Copy the image file again, or remove the image from the annotation file.",
    ),
    "image_corrupt": Kind(
        "error",
        "A file is not an image, or it is corrupt.",
        "Replace the image file, or remove the image from the annotation file.",
    ),
    "image_unsupported": Kind(
        "error",
        "A file is not damaged, but it cannot be used as an image: a format that is not supported, such as "
        "HEIC, SVG or the raw format of a camera; another kind of file, such as a Git LFS pointer or an HTML "
        "page; too many pixels; or values that are not 8-bit or 16-bit integers.",
        "Say with Global.bands how its values become 0..255, or save it with 8 bits per channel. If it has "
        "too many pixels, cut it into tiles, or raise Global.max_image_pixels.",
    ),
    "image_16bit": Kind(
        "warning",
        "A 16-bit image. Its values are divided by 257. If they use only a small part of the 16-bit range, "
        "the image becomes almost black.",
        "Say with Global.bands which values become 0 and 255, if they use only a part of the range.",
    ),
    "image_cmyk": Kind(
        "warning",
        "A CMYK image. It is converted to RGB without its colour profile, so its colours change.",
        "Save it as RGB.",
    ),
    "image_animated": Kind(
        "warning",
        "An image file with several frames or pages. Only the first one is used.",
        "Save the frame that was annotated as a separate image file. If the pages of a TIFF are bands, name "
        "them with Global.bands.",
    ),
    "image_alpha": Kind(
        "warning",
        "An image with an alpha channel. The alpha channel is dropped, so transparent pixels become visible.",
        "Save it without an alpha channel if the colours of transparent pixels matter. If it is another "
        "band, such as infrared, name the bands to use with Global.bands.",
    ),
    "image_size_mismatch": Kind(
        "error",
        "Width and height in the annotation file differ from the size of the image file. Masks would not "
        "fit the image.",
        "Correct width and height, or put back the image file that was annotated.",
    ),
    "image_exif_frame": Kind(
        "warning",
        "The EXIF orientation asks to rotate or flip the image, but the annotations were made on the image "
        "as stored, and so are the listed width and height. It is used without rotation.",
        "Check in the drawn samples that the masks fit. Save the image without EXIF orientation.",
    ),
    "image_exif_unclear": Kind(
        "warning",
        "The EXIF orientation asks to rotate or flip the image, and the annotations do not tell whether they "
        "were made on the rotated image. The image is used as the listed width and height say, and rotated "
        "if they do not tell either.",
        "Check in the drawn samples that the masks fit. Save the image without EXIF orientation.",
    ),
    "image_without_objects": Kind(
        "info",
        "Images without annotations are used as background images. Often somebody forgot to label them.",
        "Label them if they show objects.",
    ),
    "image_many_objects": Kind(
        "warning",
        "An image with more than 100 objects. Most models find at most 100 objects in an image, and COCO "
        "evaluation uses only the 100 highest-scoring detections of a class in an image.",
        "Set a higher `Global.max_detections`, or cut such images into tiles.",
    ),
    "image_unreferenced": Kind(
        "info",
        "Images in the image folder that no annotation file lists. They are not used.",
        "List them in an annotation file, even if they show no objects, or move them to another folder.",
    ),
    "image_duplicate": Kind(
        "warning",
        "A split contains the same image twice. It counts twice, and the two sets of labels may contradict "
        "each other.",
        "Keep only one of the two images.",
    ),
    "image_near_duplicate": Kind(
        "warning",
        "A split contains two almost identical images, such as video frames, or one image that was saved "
        "twice.",
        "Keep only one of them, or split again with CheckDataset.split.group_by so that both stay in the "
        "same split.",
    ),
    "leak_duplicate": Kind(
        "warning",
        "Two splits contain the same image, such as train and val. The measured AP is too high, because "
        "the model has memorised this image.",
        "Remove the image from one of the splits, or split again with "
        "CheckDataset.split.group_by=duplicates.",
    ),
    "leak_near_duplicate": Kind(
        "warning",
        "Two splits contain almost identical images, such as train and val. The measured AP is higher than "
        "it will be on new images.",
        "Split again with CheckDataset.split.group_by=duplicates, or group by a part of the file name that "
        "images of one scene share.",
    ),
    "file_name_outside": Kind(
        "error",
        "A file_name is absolute or leads out of the image folder.",
        "Move the image into the image folder, and write file_name relative to that folder.",
        "If exactly one file in the image folder can be meant, file_name becomes its name.",
    ),
    "file_name_backslash": Kind(
        "warning",
        "A file_name contains backslashes. This toolkit reads them as slashes, other tools do not.",
        "Write slashes.",
        "Backslashes are replaced by slashes.",
    ),
    "file_name_space": Kind(
        "info",
        "File names with spaces. They work in this toolkit. PaddleX list files and some scripts split "
        "names at spaces.",
        "Nothing to do, unless you use such tools.",
    ),
    "file_name_non_ascii": Kind(
        "info",
        "File names with non-ASCII characters. They work in this toolkit. Some tools and archives garble "
        "them.",
        "Nothing to do, unless you use such tools.",
    ),
    "image_size_swapped": Kind(
        "error",
        "Width and height in the annotation file are exchanged: the image file has them the other way round.",
        "Exchange width and height, or let CheckDataset.fix.enable=True do it in a copy.",
        "Width and height are exchanged. Masks stay as they are.",
    ),
    "image_exif_swapped": Kind(
        "error",
        "The EXIF orientation asks to rotate the image by a quarter, and the listed width and height are not "
        "those of the image on which the annotations were made: stored, or rotated. Masks would lie on "
        "something else.",
        "Exchange width and height, or let CheckDataset.fix.enable=True do it in a copy.",
        "Width and height are exchanged. Masks stay as they are.",
    ),
    "image_exif_turned": Kind(
        "error",
        "The EXIF orientation asks to rotate or flip the image without changing its size, and the "
        "annotations were made on the image as stored. The image would be used rotated.",
        "Remove the EXIF orientation without rotating the pixels, such as with exiftool -Orientation=, or "
        "let CheckDataset.fix.enable=True turn the annotations in a copy.",
        "Masks, boxes and keypoints are turned as the image is.",
    ),
    "image_bands_dropped": Kind(
        "warning",
        "An image with more bands than red, green and blue. The first three are used (of two bands, the "
        "first one), in this order, and the others are dropped. In images of satellites, the first band is "
        "often blue.",
        "Name the bands of red, green and blue with Global.bands, or with bands.yaml in the data set.",
    ),
    "image_bands_flat": Kind(
        "warning",
        "With the setting Global.bands, or bands.yaml in the data set, an image becomes almost one colour: "
        "its values lie outside `range`, or it has no data.",
        "Set `range` to the values that the images have, or use `stretch`. Leave out images without data.",
    ),
    "image_bands_missing": Kind(
        "error",
        "An image has fewer bands than the setting Global.bands, or bands.yaml in the data set, asks for.",
        "Name bands that all images have, or remove the image from the annotation file.",
    ),
}
