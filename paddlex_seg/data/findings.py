"""What can be found wrong with a data set: a finding, and the table of all kinds with their stable codes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]  # errors fail the check, the others are only reported


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, about a data set.

    ``image_id`` and ``annotation_id`` are as in the file, and None where the finding is not about one.
    """

    code: str  # a key of KINDS
    severity: Severity
    file: str  # name of the annotation file, or of the file that was converted
    image_id: int | None
    annotation_id: int | None
    message: str  # what is wrong, with the wrong value; one sentence without its full stop
    hint: str  # what to do about it

    def __str__(self) -> str:
        image = "" if self.image_id is None else f", image {self.image_id}"
        annotation = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{image}{annotation}: {self.message}. {self.hint}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all findings of one code have in common."""

    severity: Severity
    meaning: str  # what was seen, and what it does if it stays
    hint: str  # what to do about it
    repair: str = ""  # what CheckDataset.fix does; empty where only a person can tell


def finding(
    code: str,
    file: str,
    message: str,
    *,
    image_id: int | None = None,
    annotation_id: int | None = None,
    hint: str | None = None,
) -> Finding:
    """A finding of a kind in KINDS; ``hint`` replaces that of the kind."""
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
    """The findings about one file: all are counted, the first ones of each code are kept."""

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
        """Count a finding of a kind in KINDS, and keep it if there are not too many of its code yet."""
        self.counts[code] += 1
        if self.counts[code] <= self._kept_per_code:
            self.kept.append(
                finding(code, self.file, message, image_id=image_id, annotation_id=annotation_id, hint=hint)
            )

    def add_many(
        self, code: str, places: Sequence[int], describe: Callable[[int], tuple[str, dict[str, Any]]]
    ) -> None:
        """Count a finding for each place; only those that are kept are described, by message and ids."""
        room = max(0, self._kept_per_code - self.counts[code])
        for place in places[:room]:
            message, ids = describe(place)
            self.kept.append(finding(code, self.file, message, **ids))
        self.counts[code] += len(places)

    @property
    def num_errors(self) -> int:
        """How many findings fail the check, kept or not."""
        return sum(count for code, count in self.counts.items() if KINDS[code].severity == "error")


KINDS: dict[str, Kind] = {
    # ---- the annotation file
    "json_missing": Kind(
        "error",
        "The annotation file does not exist.",
        "Convert or copy the annotations to it.",
    ),
    "json_unreadable": Kind(
        "error",
        "The file cannot be read, is not UTF-8 or not JSON: often a download or an export that was cut off.",
        "Export the annotations again.",
    ),
    "json_top_level": Kind(
        "error",
        "The top level is not an object with images, annotations and categories: it is not a COCO file.",
        "Export in COCO format, or convert with CheckDataset.convert.",
    ),
    "key_missing": Kind(
        "error",
        "One of the lists images, annotations, categories is missing or is no list.",
        "Export the annotations again; an empty list is written as [].",
    ),
    "image_entry_invalid": Kind(
        "error",
        "An entry of images lacks id, file_name, width or height, or has a value that cannot be one.",
        "Correct the entry.",
        "Width and height are read from the image.",
    ),
    "category_entry_invalid": Kind(
        "error",
        "An entry of categories lacks id or name, or has a value that cannot be one.",
        "Correct the entry.",
    ),
    "annotation_entry_invalid": Kind(
        "error",
        "An entry of annotations lacks id, image_id or category_id, or has a value that cannot be one.",
        "Correct the entry.",
        "A missing id is given.",
    ),
    "dataset_nested": Kind(
        "info",
        "The data set lies one level below dataset_dir. It is used where it lies; PaddleX would check it, "
        "and then "
        "look for it in another place when training.",
        "Set Global.dataset_dir to the folder that holds images.",
    ),
    "split_without_images": Kind(
        "error",
        "A split lists no images: nothing to train on, or nothing to measure.",
        "Add images, or split the data again.",
    ),
    "split_without_annotations": Kind(
        "error",
        "A split has images but no annotations, or none with pixels (coordinates from 0 to 1?): it "
        "teaches nothing and scores nothing.",
        "Annotate images, or split the data again.",
    ),
    # ---- images
    "image_missing": Kind(
        "error",
        "A listed image does not exist.",
        "Copy it there, or remove it from the list.",
        "The image leaves the list, and its annotations with it.",
    ),
    "image_empty_file": Kind(
        "error",
        "An image's file has no bytes: a copy that failed.",
        "Copy the image again.",
        "The image leaves the list, and its annotations with it.",
    ),
    "image_truncated": Kind(
        "error",
        "An image's file ends too early: the lower part is missing, and most readers fail.",
        "Copy the image again.",
        "The image leaves the list, and its annotations with it.",
    ),
    "image_corrupt": Kind(
        "error",
        "A file is no image, or its data are damaged.",
        "Replace the image or remove it from the list.",
        "The image leaves the list, and its annotations with it.",
    ),
    "image_unsupported": Kind(
        "error",
        "An image that can be opened, but whose pixels are not values of 8 or 16 bits, or are too many.",
        "Save it with 8 bits a channel, or cut it into tiles.",
    ),
    "image_16bit": Kind(
        "warning",
        "An image of 16 bits a channel. It is used, divided by 257; a narrow range becomes nearly black.",
        "Scale it to 8 bits yourself if its values fill only a part of the range.",
    ),
    "image_cmyk": Kind(
        "warning",
        "An image in the colours of print. It is converted to RGB without its colour profile, and looks "
        "different.",
        "Save it as RGB.",
    ),
    "image_animated": Kind(
        "warning",
        "A file with several frames or pages. The first one is used.",
        "Save the frame that was annotated as an image of its own.",
    ),
    "image_alpha": Kind(
        "warning",
        "An image with transparency. It is used without: what was hidden becomes visible.",
        "Save it without transparency if the hidden pixels matter.",
    ),
    "image_size_mismatch": Kind(
        "error",
        "Width and height in the file are not those of the image: masks would not fit it.",
        "Correct width and height, or put back the image that was annotated.",
    ),
    "image_exif_frame": Kind(
        "warning",
        "The image is to be turned by its EXIF orientation, and the listed size is that of the unturned "
        "pixels: the "
        "labels were made on the image as stored. It is used unturned.",
        "See in the drawn samples that the masks fit; save the image without the orientation.",
    ),
    "image_exif_unclear": Kind(
        "warning",
        "The image is to be turned by its EXIF orientation in a way that keeps its size, so that nothing "
        "says "
        "whether the labels were made on the turned image. It is used turned.",
        "See in the drawn samples that the masks fit; save the image without the orientation.",
    ),
    "image_without_objects": Kind(
        "info",
        "Images without annotations count as background; often somebody forgot to label them.",
        "Label them if they show objects.",
    ),
    "image_many_objects": Kind(
        "warning",
        "More than 100 objects in an image. COCO's evaluation looks at the 100 best detections of a "
        "image: no model "
        "can reach a recall of 1.",
        "Cut such images into tiles.",
    ),
    "image_unreferenced": Kind(
        "info",
        "Images in the folder that no annotation file lists are not used.",
        "List them, also without objects, or move them away.",
    ),
    "image_duplicate": Kind(
        "warning",
        "The same image twice within a split: it counts twice, and its labels may contradict each other.",
        "Keep one of them.",
    ),
    "image_near_duplicate": Kind(
        "warning",
        "Two images of a split that hardly differ: frames of a video, or one image saved twice.",
        "Keep one of them, or split with group_by so that both stay on one side.",
    ),
    "leak_duplicate": Kind(
        "warning",
        "The same image in train and val: the measured AP is that of an image learnt by heart.",
        "Take it out of one of them, or split again with CheckDataset.split.group_by=duplicates.",
    ),
    "leak_near_duplicate": Kind(
        "warning",
        "An image of val that hardly differs from one of train: the measured AP promises more than new "
        "images give.",
        "Split again with CheckDataset.split.group_by=duplicates, or by a name that scenes share.",
    ),
    "file_name_outside": Kind(
        "error",
        "A file name that is absolute or leads out of the folder of the images.",
        "Give it relative to the folder of the images, and move the image there.",
        "A name whose image does lie inside the folder becomes relative to it.",
    ),
    "file_name_backslash": Kind(
        "warning",
        "A file name with back-slashes. They count as slashes here, but not for other tools.",
        "Write slashes.",
        "Slashes are written.",
    ),
    "file_name_space": Kind(
        "info",
        "File names with spaces. They work here; PaddleX's list files and some scripts cut them.",
        "Nothing, unless you use such tools.",
    ),
    "file_name_non_ascii": Kind(
        "info",
        "File names with letters outside ASCII. They work here; some tools and archives spoil them.",
        "Nothing, unless you use such tools.",
    ),
    # ---- ids, names, references
    "image_id_duplicate": Kind(
        "error",
        "Two images have one id: nobody can tell to which of them an annotation belongs.",
        "Give each image its own id.",
    ),
    "file_name_duplicate": Kind(
        "error",
        "An image is listed twice: each entry lacks the objects of the other, and teaches them as "
        "background.",
        "List it once, with all its annotations.",
        "The entries become one, with the annotations of both.",
    ),
    "annotation_id_duplicate": Kind(
        "error",
        "Two annotations have one id: evaluation would lose one of them.",
        "Give each annotation its own id.",
        "The later one gets a new id.",
    ),
    "category_id_duplicate": Kind(
        "error",
        "Two categories have one id.",
        "Give each category its own id.",
        "Of two with the same name as well, one leaves.",
    ),
    "category_name_duplicate": Kind(
        "error",
        "Two categories have one name: they are two classes to the model, and one in every result.",
        "Merge or rename them.",
        "They become one, with the id of the first.",
    ),
    "image_id_dangling": Kind(
        "error",
        "An annotation belongs to an image that the file does not list.",
        "List the image, or delete the annotation.",
        "The annotation leaves: its image is unknown.",
    ),
    "category_id_dangling": Kind(
        "error",
        "An annotation uses a category that the file does not list.",
        "Add the category, or correct the annotation.",
    ),
    "categories_differ_names": Kind(
        "error",
        "Train and val give one id to classes of different names: a class would be measured against "
        "another's masks.",
        "Give both files the list of the train file.",
        "Both files get one list, joined by name.",
    ),
    "categories_differ_ids": Kind(
        "error",
        "Train or val lacks a category of the other.",
        "Give both files the list of the train file.",
        "Both files get one list, joined by name.",
    ),
    "categories_differ_order": Kind(
        "error",
        "Train and val list the categories in different orders; a class is its place in the list.",
        "Give both files the list of the train file.",
        "Val gets the order of train.",
    ),
    "class_only_in_val": Kind(
        "warning",
        "A class has annotations in val, but none in train: it cannot be learnt, and lowers the AP.",
        "Split again, stratified, or label images of it for training.",
    ),
    "class_without_instances": Kind(
        "info",
        "A class has no annotation at all.",
        "Remove it if nothing of it will be labelled.",
    ),
    "category_dummy": Kind(
        "warning",
        "An unused category that is only the super-category of others, as Roboflow exports it: a class "
        "that the model "
        "never finds.",
        "Remove it from both files.",
        "It leaves both files.",
    ),
    # ---- masks
    "segmentation_missing": Kind(
        "error",
        "An annotation without a mask: a box only.",
        "Draw the outline, or delete the annotation.",
    ),
    "segmentation_empty": Kind(
        "error",
        "An annotation whose mask is an empty list.",
        "Draw the outline, or delete the annotation.",
    ),
    "segmentation_invalid": Kind(
        "error",
        "A mask that is neither a list of polygons nor an RLE.",
        "Export the annotation again.",
    ),
    "polygon_flat_list": Kind(
        "error",
        "A polygon that is not inside a list of polygons.",
        "Write [[x1, y1, x2, y2, ...]].",
        "It is put into a list.",
    ),
    "polygon_too_few_points": Kind(
        "error",
        "A polygon of fewer than three points has no inside.",
        "Draw it again, or delete it.",
        "The polygon leaves, and the annotation with it if it has no other.",
    ),
    "polygon_odd": Kind(
        "error",
        "A polygon with an odd number of coordinates: one is missing, and nobody can tell which.",
        "Export the annotation again, or draw it again.",
    ),
    "polygon_nan": Kind(
        "error",
        "A polygon with values that are not pixel coordinates: no number, NaN, infinite or beyond a million.",
        "Export the annotation again, or draw it again.",
    ),
    "polygon_zero_area": Kind(
        "warning",
        "A polygon whose points lie on one line or one spot encloses nothing.",
        "Draw it again, or delete it.",
        "The polygon leaves, and the annotation with it if it has no other.",
    ),
    "polygon_self_intersecting": Kind(
        "warning",
        "A polygon that crosses itself. What lies between the crossings may count as inside or outside, "
        "and tools differ.",
        "See in the report what is drawn; draw it again if that is not the object.",
    ),
    "polygon_outside": Kind(
        "warning",
        "A polygon that reaches more than a pixel beyond its image. What lies outside is cut off.",
        "Nothing if the object is cut by the border; else see whether the image was resized after labelling.",
        "What lies outside is cut off.",
    ),
    "mask_empty": Kind(
        "warning",
        "A mask that covers no pixel of its image: too small, or outside. The object is never seen.",
        "Delete the annotation, or draw it again.",
        "The annotation leaves.",
    ),
    "rle_size_mismatch": Kind(
        "error",
        "An RLE of another size than its image.",
        "Correct the size of the image, or export the mask again.",
    ),
    "rle_damaged": Kind(
        "error",
        "An RLE that cannot be read, or whose runs do not add up to its size.",
        "Export the mask again.",
    ),
    # ---- boxes, areas, flags
    "bbox_missing": Kind(
        "warning",
        "An annotation without a box. It is taken from the mask here; other tools fail.",
        "Nothing, unless you use such tools.",
        "It is computed from the mask.",
    ),
    "bbox_zero": Kind(
        "warning",
        "A box without width or height. It is taken from the mask here; other tools drop the object.",
        "See whether the object is still there.",
        "It is computed from the mask.",
    ),
    "bbox_negative": Kind(
        "warning",
        "A box with a negative width or height: corners instead of a size, or corners swapped.",
        "Write [x, y, width, height].",
        "It is computed from the mask.",
    ),
    "bbox_mismatch": Kind(
        "warning",
        "A box that is not that of the mask: one of them was moved, or the box is [x1, y1, x2, y2].",
        "See in the report which of them is right.",
        "It is computed from the mask.",
    ),
    "area_missing": Kind(
        "warning",
        "Annotations without an area. It is taken from the mask here; other tools fail.",
        "Nothing, unless you use such tools.",
        "It is computed from the mask.",
    ),
    "area_mismatch": Kind(
        "warning",
        "Annotations whose area is not that of the mask. Evaluation sorts objects into small, medium and "
        "large by it.",
        "Have it computed from the mask.",
        "It is computed from the mask.",
    ),
    "area_of_box": Kind(
        "warning",
        "Annotations whose area is that of the box, as Roboflow exports it. Evaluation sorts objects into "
        "small, medium "
        "and large by it.",
        "Have it computed from the mask.",
        "It is computed from the mask.",
    ),
    "crowd": Kind(
        "info",
        "Crowd annotations (iscrowd 1) are not trained on, and detections in them are not counted as wrong.",
        "Nothing.",
    ),
    "annotation_duplicate": Kind(
        "warning",
        "Two annotations of one image with the same class and mask: the object counts twice.",
        "Delete one of them.",
        "The later one leaves.",
    ),
    # ---- conversion of other formats
    "source_unreadable": Kind(
        "error",
        "A file of the other format cannot be read; the others were converted.",
        "Correct or remove the file, and convert again.",
    ),
    "shape_unusable": Kind(
        "error",
        "A shape with a wrong number of points or wrong values; the others of its file were converted.",
        "Draw it again.",
    ),
    "shape_without_area": Kind(
        "warning",
        "A point or a line has no area, and no instance can be made of it; it was left out.",
        "Draw a polygon, or ignore this if the shape is a note.",
    ),
    "label_unknown": Kind(
        "error",
        "A label that the list of classes does not have; its shapes were left out.",
        "Correct the label, or add it to the list.",
    ),
    "mask_approximated": Kind(
        "warning",
        "A mask that the target format cannot hold: holes, or several parts. It was written as near as "
        "possible.",
        "Keep the original, or choose a format that holds masks.",
    ),
}


def summarize_problems(
    where: str, problems: Sequence[str], *, count: int | None = None, shown: int = 20
) -> str:
    """One message for many problems: the first ones in full, and how many more of ``count`` there are."""
    count = len(problems) if count is None else count
    more = count - min(shown, len(problems))
    lines = [f"{where}: {count} problem{'s' if count > 1 else ''}", *problems[:shown]]
    return "\n  ".join(lines + [f"... and {more} more"] * (more > 0))
