"""Findings: problems and facts that a check reports about a data set. ``KINDS`` lists all stable codes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]  # only errors fail the check


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set, or one fact worth knowing.

    ``image_id`` and ``annotation_id`` are the ids in the annotation file. They are None if the finding is not
    about a single image or annotation.
    """

    code: str  # a key of KINDS
    severity: Severity
    file: str  # name of the annotation file, or of the source file of a conversion
    image_id: int | None
    annotation_id: int | None
    message: str  # what is wrong, with the wrong value: one sentence without a full stop
    hint: str  # what to do about it

    def __str__(self) -> str:
        image = "" if self.image_id is None else f", image {self.image_id}"
        annotation = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{image}{annotation}: {self.message}. {self.hint}"


@dataclass(frozen=True, slots=True)
class Kind:
    """Severity and texts that all findings of one code share."""

    severity: Severity
    meaning: str  # what was found, and what happens if it stays
    hint: str  # what to do about it
    repair: str = ""  # what CheckDataset.fix does; empty if it cannot be repaired automatically


def finding(
    code: str,
    file: str,
    message: str,
    *,
    image_id: int | None = None,
    annotation_id: int | None = None,
    hint: str | None = None,
) -> Finding:
    """A finding with a code of KINDS. ``hint`` replaces the hint in KINDS."""
    kind = KINDS[code]
    return Finding(
        code=code,
        severity=kind.severity,
        file=file,
        image_id=image_id,
        annotation_id=annotation_id,
        message=message,
        hint=kind.hint if hint is None else hint,
    )


class FindingLog:
    """The findings about one file. All are counted; the first ``kept_per_code`` of each code are kept."""

    def __init__(self, file: str, kept_per_code: int = 1000) -> None:
        self.file = file
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._kept_per_code = kept_per_code

    def add(
        self,
        code: str,
        message: str,
        *,
        image_id: int | None = None,
        annotation_id: int | None = None,
        hint: str | None = None,
    ) -> None:
        """Count a finding with a code of KINDS. Keep it if fewer than ``kept_per_code`` are kept."""
        self.counts[code] += 1
        if self.counts[code] <= self._kept_per_code:
            self.kept.append(
                finding(code, self.file, message, image_id=image_id, annotation_id=annotation_id, hint=hint)
            )

    def add_many(
        self, code: str, places: Sequence[int], describe: Callable[[int], tuple[str, dict[str, Any]]]
    ) -> None:
        """Count one finding per place. ``describe`` gives message and ids of the findings that are kept."""
        room = max(0, self._kept_per_code - self.counts[code])
        for place in places[:room]:
            message, ids = describe(place)
            self.kept.append(finding(code, self.file, message, **ids))
        self.counts[code] += len(places)

    @property
    def num_errors(self) -> int:
        """Number of findings that are errors, kept or not."""
        return sum(count for code, count in self.counts.items() if KINDS[code].severity == "error")


KINDS: dict[str, Kind] = {
    # ---- the annotation file
    "json_missing": Kind(
        "error",
        "The annotation file does not exist.",
        "Copy the annotation file there, or convert your annotations with CheckDataset.convert.",
    ),
    "json_unreadable": Kind(
        "error",
        "The annotation file cannot be read, is not UTF-8, or is not valid JSON. Often a download or an "
        "export was interrupted.",
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
    # ---- images
    "image_missing": Kind(
        "error",
        "A listed image file does not exist.",
        "Copy the image file there, or remove the image from the annotation file.",
        "The image and its annotations are left out of the repaired copy.",
    ),
    "image_empty_file": Kind(
        "error",
        "An image file is empty (0 bytes), usually because a copy failed.",
        "Copy the image file again.",
        "The image and its annotations are left out of the repaired copy.",
    ),
    "image_truncated": Kind(
        "error",
        "An image file is truncated. Its lower part is missing, and most readers fail.",
        "Copy the image file again.",
        "The image and its annotations are left out of the repaired copy.",
    ),
    "image_corrupt": Kind(
        "error",
        "A file is not an image, or it is corrupt.",
        "Replace the image file, or remove the image from the annotation file.",
        "The image and its annotations are left out of the repaired copy.",
    ),
    "image_unsupported": Kind(
        "error",
        "An image file is readable, but it has too many pixels, or its values are not 8-bit or 16-bit "
        "integers.",
        "Save it with 8 bits per channel. If it has too many pixels, cut it into tiles, or raise "
        "Global.max_image_pixels.",
    ),
    "image_16bit": Kind(
        "warning",
        "A 16-bit image. Its values are divided by 257. If they use only a small part of the 16-bit range, "
        "the image becomes almost black.",
        "Scale it to 8 bits yourself if its values use only a part of the range.",
    ),
    "image_cmyk": Kind(
        "warning",
        "A CMYK image. It is converted to RGB without its colour profile, so its colours change.",
        "Save it as RGB.",
    ),
    "image_animated": Kind(
        "warning",
        "An image file with several frames or pages. Only the first one is used.",
        "Save the frame that was annotated as a separate image file.",
    ),
    "image_alpha": Kind(
        "warning",
        "An image with an alpha channel. The alpha channel is dropped, so transparent pixels become visible.",
        "Save it without an alpha channel if the colours of transparent pixels matter.",
    ),
    "image_size_mismatch": Kind(
        "error",
        "Width and height in the annotation file differ from the size of the image file. Masks would not "
        "fit the image.",
        "Correct width and height, or put back the image file that was annotated.",
    ),
    "image_exif_frame": Kind(
        "warning",
        "The EXIF orientation asks to rotate or flip the image, but the listed width and height are those "
        "of the stored pixels. The annotations were made on the image as stored, so it is used without "
        "rotation.",
        "Check in the drawn samples that the masks fit. Save the image without EXIF orientation.",
    ),
    "image_exif_unclear": Kind(
        "warning",
        "The EXIF orientation asks to rotate or flip the image, but its size stays the same. It is unknown "
        "whether the annotations were made on the rotated image. The image is used rotated.",
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
        "If the file is inside the image folder, file_name becomes relative to that folder.",
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
    # ---- ids, names, references
    "image_id_duplicate": Kind(
        "error",
        "Two images have the same id, so it is unknown which image an annotation belongs to.",
        "Give each image a unique id.",
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
        "The later annotation gets a new id.",
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
        "Add the image to the list, or remove the annotation.",
        "The annotation is removed.",
    ),
    "category_id_dangling": Kind(
        "error",
        "An annotation has a category_id that is not in the list of categories.",
        "Add the category to the list, or correct the annotation.",
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
    # ---- masks
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
    # ---- boxes, areas, flags
    "bbox_missing": Kind(
        "warning",
        "An annotation has no box. This toolkit computes it from the mask, other tools fail.",
        "Nothing to do, unless you use such tools.",
        "The box is computed from the mask.",
    ),
    "bbox_zero": Kind(
        "warning",
        "A box has zero width or height. This toolkit computes the box from the mask, other tools drop the "
        "object.",
        "Check that the annotation is correct.",
        "The box is computed from the mask.",
    ),
    "bbox_negative": Kind(
        "warning",
        "A box has a negative width or height. It may contain corners instead of a size, or swapped corners.",
        "Write [x, y, width, height].",
        "The box is computed from the mask.",
    ),
    "bbox_mismatch": Kind(
        "warning",
        "A box does not fit its mask. One of them was moved, or the box is written as [x1, y1, x2, y2].",
        "Check in the report which of them is right, and correct the other one.",
        "The box is computed from the mask.",
    ),
    "area_missing": Kind(
        "warning",
        "Annotations have no area. This toolkit computes it from the mask, other tools fail.",
        "Nothing to do, unless you use such tools.",
        "The area is computed from the mask.",
    ),
    "area_mismatch": Kind(
        "warning",
        "The area of annotations differs from the area of their masks. Evaluation uses area to sort "
        "objects into small, medium and large.",
        "Let CheckDataset.fix compute the area from the mask.",
        "The area is computed from the mask.",
    ),
    "area_of_box": Kind(
        "warning",
        "The area of annotations is the area of their boxes, as in Roboflow exports. Evaluation uses area "
        "to sort objects into small, medium and large.",
        "Let CheckDataset.fix compute the area from the mask.",
        "The area is computed from the mask.",
    ),
    "crowd": Kind(
        "info",
        "Crowd annotations (iscrowd 1) are not used for training. In evaluation, detections inside them do "
        "not count as false positives.",
        "Nothing to do.",
    ),
    "annotation_duplicate": Kind(
        "warning",
        "Two annotations of one image have the same class and mask. The object counts twice.",
        "Keep only one of them.",
        "The later annotation is removed.",
    ),
    # ---- conversion of other formats
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


def summarize_problems(
    where: str, problems: Sequence[str], *, count: int | None = None, shown: int = 20
) -> str:
    """One message for ``count`` problems: the first ``shown`` in full, then the number of the others."""
    count = len(problems) if count is None else count
    more = count - min(shown, len(problems))
    lines = [f"{where}: {count} problem{'s' if count > 1 else ''}", *problems[:shown]]
    return "\n  ".join(lines + [f"... and {more} more"] * (more > 0))
