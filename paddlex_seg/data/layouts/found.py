"""Finds the data set that a user means, and says what is there when it is none."""

import json
from collections.abc import Sequence
from pathlib import Path

from paddlex_seg.data.formats.coco_export import files_by_split
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.data.layouts.recognise import EISEG_MASKS, Layout, recognise, roots
from paddlex_seg.data.layouts.tree import Tree, scan_tree
from paddlex_seg.errors import ConfigError, DatasetError, ForeignDataset, UnclearDataset

AUTO = "auto"
_SHOWN = 6
_EXPECTED = (
    "Expected images/ with annotations/instance_train.json and instance_val.json, or a data set as written "
    "by CVAT, Roboflow, Label Studio, LabelMe, X-AnyLabeling, EISeg, PaddleX, or in the layouts of COCO, "
    "Pascal VOC or YOLO"
)
_EISEG_ADVICE = (
    "They show classes, not objects. Save as COCO in EISeg, which writes label/annotations.json. Or, if the "
    "objects of a class never touch, make masks of objects with EISeg's tool semantic2instance.py, put the "
    "images into images/ and these masks into masks/ of a new folder, and set Global.dataset_dir to it."
)
_TOOLS_BY_KEY = {
    "_via_img_metadata": "a project of VGG Image Annotator; export it as COCO",
    "region_attributes": "the format of VGG Image Annotator; export as COCO",
    "classTitle": "Supervisely's own format; export it as COCO",
    "predictions": "Label Studio's own format; export it as COCO",
    "polygonlabels": "Label Studio's own format; export it as COCO",
    "brushlabels": "Label Studio's own format; export it as COCO",
    "data_row": "Labelbox's own format; convert it to COCO",
    "DataRow ID": "Labelbox's own format; convert it to COCO",
    "schema_ref": "V7 Darwin's own format; export it as COCO",
    "className": "SuperAnnotate's own format; convert it to COCO",
    "task_id": "Scale's own format; convert it to COCO",
    "labelIdx": "EISeg's own format; save it as COCO in EISeg",
}


def require_place(dataset_dir: Path) -> Path:
    """``dataset_dir``, or the only zip archive in it. Raises DatasetError for other files."""
    if not dataset_dir.exists():
        raise DatasetError(f"{dataset_dir}: there is no such folder. Set Global.dataset_dir to the data set.")
    if dataset_dir.is_dir():
        tree = scan_tree(dataset_dir)
        if list(tree.folders) == [""] and len(tree.files[""]) == 1 and tree.files_of("", ".zip"):
            return dataset_dir / tree.files[""][0]
    elif dataset_dir.suffix.lower() != ".zip":
        raise DatasetError(
            f"{dataset_dir}: this is a file. Set Global.dataset_dir to the folder of the data set, or to a "
            "zip archive of it."
        )
    return dataset_dir


def find_layout(dataset_dir: Path, place: Path, source: str = AUTO) -> Layout:
    """The layout of the data set in ``place`` (`require_place`). source: its format, or auto.

    Raises UnclearDataset when there is no data set or more than one, several COCO files for one split, or
    only masks of classes by EISeg. Raises ConfigError when its format is not ``source``, or with auto when
    there are several.
    """
    tree = scan_tree(place)
    layouts = recognise(tree)
    if not layouts:
        raise UnclearDataset(f"{dataset_dir}: no data set was recognised. {describe(tree)}. {_EXPECTED}.")
    if len(roots(layouts)) > 1:
        names = ", ".join(f"{layout.root} ({layout.format})" for layout in layouts[:_SHOWN])
        more = f" and {len(layouts) - _SHOWN} more" if len(layouts) > _SHOWN else ""
        raise UnclearDataset(
            f"{dataset_dir}: contains several data sets ({names}{more}). "
            "Set Global.dataset_dir to one of them."
        )
    fitting = [layout for layout in layouts if source in (AUTO, layout.format)]
    if {layout.format for layout in fitting} == {"COCO", "MaskPNG"}:
        # EISeg writes both; COCO has the objects
        fitting = [layout for layout in fitting if layout.format == "COCO"]
    names = " and ".join(layout.name for layout in layouts)
    kinds = ", ".join(layout.format for layout in layouts)
    if not fitting:
        raise ConfigError(
            f"CheckDataset.convert.src_dataset_type is {source}, but {layouts[0].at(dataset_dir)} is "
            f"{names}. Set it to {' or '.join([*kinds.split(', '), AUTO])}."
        )
    if len(fitting) > 1:
        raise ConfigError(
            f"{layouts[0].at(dataset_dir)}: has annotations in several formats: {names}. Set "
            f"CheckDataset.convert.src_dataset_type to the one that you want: {kinds}."
        )
    layout = fitting[0]
    if layout.format == "COCO" and not layout.is_own:
        files_by_split(tree, layout.root)  # raises
    if layout.name == EISEG_MASKS:
        raise UnclearDataset(f"{layout.at(dataset_dir)}: these are {EISEG_MASKS}. {_EISEG_ADVICE}")
    return layout


def own_root(dataset_dir: Path) -> Path:
    """The folder of the data set in ``dataset_dir`` that has this toolkit's layout.

    Raises ForeignDataset when another tool wrote it, and UnclearDataset when there is none or more than one.
    """
    place = require_place(dataset_dir)
    try:
        layout = find_layout(dataset_dir, place)
    except ConfigError as error:  # several formats; one must be chosen
        raise UnclearDataset(str(error)) from error
    if layout.is_own:
        return layout.at(place)
    where = layout.at(Path(dataset_dir) if place.is_dir() else place)
    what = "brings it into a new folder, changes nothing in the old one"
    if has_layout_of_paddlex(where, layout):
        what = "writes annotations/instance_train.json and instance_val.json beside it, changes no file"
    raise ForeignDataset(
        f"{where}: this is {layout.name}, format {layout.format}. It must be converted first",
        f"This command {what}, and says how to go on:",
        source=AUTO,
    )


def has_layout_of_paddlex(root: Path, layout: Layout) -> bool:
    """Whether the data set has the layout of PaddleX, in whose folder LabelMe files are converted."""
    return layout.format == "LabelMe" and (root / "images").is_dir()


def describe(tree: Tree) -> str:
    """What is there: folders, JSON files with their keys, numbers of images, archives, other files."""
    parts = []
    folders = [name for name in tree.folders if name]
    parts.append(_listed("folder", [f"{name}/" for name in folders]))
    documents = [name for folder in tree.files for name in tree.files_of(folder, ".json")]
    parts.append(
        _listed("JSON file", [f"{name} ({_keys(tree, name)})" for name in documents[:_SHOWN]], len(documents))
    )
    counts = {folder: len(tree.files_of(folder, *IMAGE_SUFFIXES)) for folder in tree.files}
    with_images = {folder: count for folder, count in counts.items() if count}
    total = sum(with_images.values())
    places = ", ".join(f"{count} in {folder or '.'}" for folder, count in list(with_images.items())[:_SHOWN])
    parts.append(f"{total} images ({places})" if total else "no images")
    archives = [
        name for folder in tree.files for name in tree.files_of(folder, ".zip", ".tar", ".gz", ".7z", ".rar")
    ]
    if archives:
        parts.append(
            _listed("archive", archives) + " (unpack it, or set Global.dataset_dir to one zip archive)"
        )
    xml = [
        name
        for folder in tree.files
        for name in tree.files_of(folder, ".xml", ".txt", ".yaml", ".csv", ".ndjson")
    ]
    if xml:
        parts.append(_listed("other file", xml))
    cut = ". There are more files than were looked at" if tree.is_cut else ""
    return f"Found {'; '.join(parts)}{cut}"


def _listed(kind: str, names: Sequence[str], count: int | None = None) -> str:
    count = len(names) if count is None else count
    if not count:
        return f"no {kind}s"
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return f"{count} {kind}{'s' if count > 1 else ''}: {', '.join(names[:_SHOWN])}{more}"


def _keys(tree: Tree, name: str) -> str:
    """The top-level keys of a JSON file, or what else it is."""
    try:
        head, tail = tree.read(name)
        document = json.loads(head)
    except (OSError, DatasetError):
        return "unreadable"
    except (ValueError, RecursionError):
        return "large or not JSON"
    tool = next(
        (f"; {text}" for key, text in _TOOLS_BY_KEY.items() if f'"{key}"'.encode() in head + tail), ""
    )
    if isinstance(document, dict):
        shown = ", ".join(list(document)[:_SHOWN]) or "none"
        return f"keys {shown}{tool}"
    return f"a {'list' if isinstance(document, list) else type(document).__name__}{tool}"
