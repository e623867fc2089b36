"""Recognises which tool wrote a data set, and where it begins. Only names and ends of files are read."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from paddlex_seg.data.formats.mask_sources import IMAGE_FOLDERS, MASK_FOLDERS
from paddlex_seg.data.formats.split_names import is_split_folder, split_named
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.data.layouts.tree import Tree, join
from paddlex_seg.files.json import first_strings

ANNOTATION_FOLDERS = (
    "annotations",
    "annotation",
    "ann",
    "label",
    "labels",
    "json",
    "jsons",
    "coco",
    "images",
)
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
EISEG_MASKS = "EISeg's masks (label/*.png)"


@dataclass(frozen=True)
class Layout:
    """What a folder is: the format of its annotations, and who writes files in this order."""

    format: str  # a value of CheckDataset.convert.src_dataset_type
    name: str  # for messages
    root: str  # the folder where the data set begins, from the place that was scanned
    is_own: bool = False  # the layout of this toolkit, which needs no conversion

    def at(self, place: Path) -> Path:
        """The folder where the data set begins."""
        return place / self.root if self.root else place


_Look = Callable[[Tree, str], Layout | None]  # the layout that begins in a folder


def recognise(tree: Tree) -> list[Layout]:
    """The layouts of a data set, the most likely one first; none if it is not known.

    The data set begins in the folder itself or deeper. Layouts with different ``root`` are several data sets.
    One folder may have annotations in several formats.
    """
    found: list[Layout] = []
    waiting = [""]
    for folder in waiting:
        here = _layouts_at(tree, folder)
        found += here
        if not here:
            waiting += [join(folder, name) for name in tree.folders.get(folder, ())]
    return _labelme_as_one(tree, found)


def roots(layouts: Sequence[Layout]) -> list[str]:
    """The folders where the data sets begin, without duplicates."""
    return list(dict.fromkeys(layout.root for layout in layouts))


def own_annotations(root: Path) -> dict[str, Path]:
    """The annotation files in this toolkit's layout, by split: ``instance_train.json`` and so on.

    ``instances_train.json`` is the same file, if ``instance_train.json`` does not exist, unless its images
    are not where this toolkit looks for them.
    """
    found = {}
    for split in ("train", "val", "test"):
        path, with_s = (root / "annotations" / f"{stem}_{split}.json" for stem in ("instance", "instances"))
        if path.is_file():
            found[split] = path
        elif with_s.is_file() and _images_fit(root, with_s):
            found[split] = with_s
    return found


def _images_fit(root: Path, file: Path) -> bool:
    """False if the first images of a file are not in ``images/``, but in a folder of it or beside it."""
    names = [PurePosixPath(name.replace("\\", "/")) for name in first_strings(file, "file_name", 20)]
    images = root / "images"
    if not images.is_dir() or any((images / name).is_file() for name in names):
        return images.is_dir()
    folders = [child for place in (images, root) for child in place.iterdir() if child.is_dir()]
    return not any((folder / name).is_file() for folder in folders for name in names)


# ---- one folder


def _layouts_at(tree: Tree, folder: str) -> list[Layout]:
    found = [layout for look in _LOOKS if (layout := look(tree, folder)) is not None]
    own = next((layout for layout in found if layout.is_own), None)
    if own is None:
        return found
    # Files in LabelMe's format beside the files that a conversion wrote are their source.
    return [layout for layout in found if layout.format == "LabelMe"] or [own]


def _own(tree: Tree, folder: str) -> Layout | None:
    if "images" not in tree.folders[folder] or not tree.place.is_dir():
        return None
    own = own_annotations(tree.place / folder) if "annotations" in tree.folders[folder] else {}
    return Layout("COCO", "the layout of this toolkit", folder, is_own=True) if own else None


def _coco(tree: Tree, folder: str) -> Layout | None:
    files = list(coco_files(tree, folder))
    return Layout("COCO", _name_of_coco(files), folder) if files else None


def coco_files(tree: Tree, folder: str) -> Iterator[str]:
    """The COCO files of the data set that begins in ``folder``."""
    places = [folder, *_annotation_folders(tree, folder)]
    for split in (join(folder, name) for name in tree.folders[folder] if is_split_folder(name)):
        places += [split, *_annotation_folders(tree, split)]
    for place in places:
        yield from (name for name, kind in tree.json_kinds(place) if kind == "coco")


def _annotation_folders(tree: Tree, folder: str) -> list[str]:
    return [join(folder, name) for name in tree.folders[folder] if name.lower() in ANNOTATION_FOLDERS]


def _name_of_coco(files: Sequence[str]) -> str:
    names = [name.rpartition("/")[2] for name in files]
    listed = ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")
    if "_annotations.coco.json" in names:
        return f"Roboflow's COCO export ({listed})"
    if "result.json" in names or "result_coco.json" in names:
        return f"Label Studio's COCO export ({listed})"
    if any(re.fullmatch(r"instances_(train|val|test)\d{4}\.json", name) for name in names):
        return f"the layout of COCO's own data sets ({listed})"
    if any(name.startswith("instances_") for name in names):
        return f"a COCO export of CVAT or Datumaro ({listed})"
    return f"a COCO export ({listed})"


def _voc(tree: Tree, folder: str) -> Layout | None:
    names = tree.folders[folder]
    masks = [name for name in names if re.fullmatch("Segmentation(Object|Class)(PNG|Npy)?", name)]
    if "labelmap.txt" in tree.files.get(folder, ()) and masks:
        return Layout("VOC", "CVAT's Segmentation mask 1.1 (labelmap.txt, SegmentationObject)", folder)
    if masks:
        return Layout("VOC", f"Pascal VOC with masks ({', '.join(masks)})", folder)
    boxes = [name for name in names if name == "Annotations" and tree.has_below(join(folder, name), ".xml")]
    if boxes and "JPEGImages" in names:
        return Layout("VOC", "Pascal VOC with boxes only (Annotations/*.xml)", folder)
    return _one_per_split(tree, folder, _voc)


def _one_per_split(tree: Tree, folder: str, look: _Look) -> Layout | None:
    """Folders of splits, of which one is for training, that are alike: together they are one data set."""
    parts = {name: look(tree, join(folder, name)) for name in tree.folders[folder] if is_split_folder(name)}
    found = {split_named(name): part for name, part in parts.items() if part is not None}
    first = found.get("train")
    return Layout(first.format, f"{first.name}, a folder for each split", folder) if first else None


def _yolo(tree: Tree, folder: str) -> Layout | None:
    yaml = next((name for name in tree.files_of(folder, ".yaml", ".yml") if _names_classes(tree, name)), None)
    if yaml is not None:
        tool = "Roboflow's YOLO export" if _is_roboflow(tree, folder) else "YOLO"
        return Layout("YOLO", f"{tool} ({yaml.rpartition('/')[2]})", folder)
    names = tree.folders[folder]
    holders = [folder, *(join(folder, name) for name in names if is_split_folder(name))]
    labels = [
        join(holder, "labels")
        for holder in holders
        if "labels" in tree.folders[holder] and tree.has_below(join(holder, "labels"), ".txt")
    ]
    if labels and tree.has_images(folder):
        is_label_studio = "notes.json" in tree.files.get(folder, ())
        return Layout(
            "YOLO", "Label Studio's YOLO export" if is_label_studio else f"YOLO ({labels[0]})", folder
        )
    if "classes.txt" in tree.files.get(folder, ()) and _labels_beside_images(tree, folder):
        return Layout("YOLO", "YOLO (labels beside the images)", folder)
    return None


def _names_classes(tree: Tree, yaml: str) -> bool:
    head, _ = tree.read(yaml)
    return re.search(rb"^\s*['\"]?names['\"]?\s*:", head, re.MULTILINE) is not None


def _is_roboflow(tree: Tree, folder: str) -> bool:
    names = tree.files.get(folder, ())
    return any(name.lower().startswith("readme.") and "roboflow" in name.lower() for name in names)


def _labels_beside_images(tree: Tree, folder: str) -> bool:
    stems = {name.rpartition(".")[0] for name in tree.files_of(folder, *IMAGE_SUFFIXES)}
    return any(name.rpartition(".")[0] in stems for name in tree.files_of(folder, ".txt"))


def _mask_png(tree: Tree, folder: str) -> Layout | None:
    below = {name.lower(): join(folder, name) for name in reversed(tree.folders[folder])}
    images = next(
        (below[name] for name in IMAGE_FOLDERS if name in below and tree.has_images(below[name])), None
    )
    masks = [
        below[name] for name in MASK_FOLDERS if name in below and tree.has_below(below[name], *MASK_SUFFIXES)
    ]
    if images is not None and masks:
        return Layout("MaskPNG", f"masks as image files ({images}, {masks[0]})", folder)
    if images is not None and any(
        _is_mask(name) for at in tree.below(images) for name in tree.files.get(at, ())
    ):
        return Layout("MaskPNG", f"masks as image files beside the images ({images})", folder)
    brushes = [name for name in tree.files.get(folder, ()) if re.match(r"task-\d+-annotation-\d+-by-", name)]
    if brushes:
        return Layout("MaskPNG", f"Label Studio's brush masks ({brushes[0]})", folder)
    pngs = {
        name.lower() for name in tree.files.get(join(folder, "label"), ()) if name.lower().endswith(".png")
    }
    stems = [name.rpartition(".")[0].lower() for name in tree.files_of(folder, *IMAGE_SUFFIXES)]
    if pngs and any(f"{stem.rpartition('/')[2]}.png" in pngs for stem in stems):
        return Layout("MaskPNG", EISEG_MASKS, folder)
    return _one_per_split(tree, folder, _mask_png)


def _is_mask(name: str) -> bool:
    return re.search(r"[_-](mask|masks|label|seg|gt|instances?)\.(png|tiff?|bmp)$", name.lower()) is not None


def _labelme(tree: Tree, folder: str) -> Layout | None:
    places = [folder]
    if any(name.endswith("_anno_list.txt") for name in tree.files.get(folder, ())):
        places += tree.below(folder)  # these lists name files in any folder below
    for name in _annotation_folders(tree, folder):
        places += tree.below(name)
    for split in tree.folders[folder]:
        if is_split_folder(split):
            places += [join(folder, split), *_annotation_folders(tree, join(folder, split))]
    if any(kind == "labelme" for place in places for _, kind in tree.json_kinds(place)):
        return Layout("LabelMe", "LabelMe or X-AnyLabeling (one JSON file per image)", folder)
    return None


_LOOKS: tuple[_Look, ...] = (_own, _coco, _labelme, _voc, _yolo, _mask_png)


def _labelme_as_one(tree: Tree, found: list[Layout]) -> list[Layout]:
    """Folders of LabelMe files side by side are one data set, which begins in the folder around them."""
    alike = all(layout.format == "LabelMe" and "images" not in tree.folders[layout.root] for layout in found)
    if len(found) < 2 or not alike:
        return found
    shared = os.path.commonpath([layout.root for layout in found])
    return [Layout("LabelMe", found[0].name, shared)]
