"""Label Studio's export "Brush labels to PNG": one PNG for each brush label, named by task and label.

The names are ``task-<task>-annotation-<annotation>-by-<user>-<control>-<labels>-<number>.png``. Control is
the name of the BrushLabels tag, usually ``tag``. The names do not tell the image. The JSON export of the same
project does, and it tells where the name of the control ends and the labels begin.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from paddlex_seg.data.coco.categories import listed_name
from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.assembly import (
    SourceImage,
    SourceObject,
    assemble_splits,
    labels_in_order,
)
from paddlex_seg.data.formats.conversion import ALL, Conversion
from paddlex_seg.data.formats.mask_images import read_binary_mask
from paddlex_seg.data.formats.mask_pieces import num_large_pieces
from paddlex_seg.data.formats.source_files import (
    ImageNames,
    agreed_size,
    decode_text,
    files_below,
    image_sizes,
    read_class_names,
)
from paddlex_seg.data.images import IMAGE_SUFFIXES
from paddlex_seg.errors import DatasetError
from paddlex_seg.masks.rle import mask_to_rle

BRUSH_NAME = re.compile(
    r"task-(?P<task>\d+)(?:-(?:annotation|completion)-(?P<annotation>\d+))?(?:-by-[^-]*)?"
    r"-(?P<rest>.+)-(?P<number>\d+)\.png"
)
_NO_LABEL = "no_label"  # written by Label Studio for a region without a label


def has_brush_masks(root: Path) -> bool:
    """Whether there is a brush PNG anywhere in ``root``."""
    return any(_parse(name) is not None for name in files_below(root, (".png",)))


def read_brush_png(root: Path) -> Conversion:
    """Read the brush PNGs, the JSON export and the images anywhere in ``root``.

    Each PNG becomes one object. A task with several annotations gives a finding, and is left out. Raises
    DatasetError when there is no brush PNG, no JSON export, or no image.
    """
    files = files_below(root, (".png",))
    masks = [_Brush(name, *found) for name in files if (found := _parse(name)) is not None]
    if not masks:
        raise DatasetError(
            f"{root}: no file task-<id>-annotation-<id>-by-<user>-<tag>-<label>-<number>.png. Expected the "
            "PNGs of Label Studio's export 'Brush labels to PNG'."
        )
    tasks = _read_tasks(root)
    taken = {mask.file for mask in masks}
    images = _images_by_name([name for name in files_below(root, IMAGE_SUFFIXES) if name not in taken])
    if not images:
        raise DatasetError(
            f"{root}: {len(masks)} brush PNGs, but no images. The export does not contain them. Copy the "
            f"images of the project to {root / 'images'}."
        )
    findings: list[Finding] = []
    if others := sum(task.num_others for task in tasks.values()):
        message = f"{others} polygons, boxes or other regions without brush were not read"
        hint = "Export them as COCO, and convert that, if you need them."
        findings.append(finding("source_unsupported", "the JSON export", message, hint=hint))
    by_task: dict[int, list[_Brush]] = {}
    for mask in masks:
        by_task.setdefault(mask.task, []).append(mask)
    for task in tasks:
        by_task.setdefault(task, [])
    place_of_task = dict(_images_of_tasks(by_task, tasks, images, findings))
    file_names = ImageNames(root)
    members = list(_read_images(root, by_task, place_of_task, tasks, file_names, findings))
    used = labels_in_order({ALL: members})
    labels = read_class_names(root) or used
    listed = {label: listed_name(label, labels) for label in used}
    for label, name in listed.items():
        if name is None:
            message = f"the class {label!r} is not in the list of classes"
            findings.append(finding("label_unknown", "label.txt", message))
        elif name != label:
            message = f"the label {label!r} was read as {name!r}"
            findings.append(finding("label_spelling", "label.txt", message))
    members = [_with_listed(image, listed) for image in members]
    return Conversion(
        splits=assemble_splits(root, {ALL: members}, labels),
        findings=tuple(findings),
        images=file_names.to_place,
    )


@dataclass(frozen=True)
class _Brush:
    file: str  # relative to the root
    task: int
    annotation: int
    rest: str  # control and labels, joined by "-"
    number: int


@dataclass(frozen=True)
class _Task:
    image: str  # as the export names it
    controls: frozenset[str]  # names of BrushLabels tags
    labels: frozenset[str]
    num_brushes: Mapping[int, int]  # brush regions of each annotation
    num_others: int  # polygons, boxes and other regions


def _parse(name: str) -> tuple[int, int, str, int] | None:
    found = BRUSH_NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        return None
    return int(found["task"]), int(found["annotation"] or 0), found["rest"], int(found["number"])


# ---- the JSON export


def _read_tasks(root: Path) -> dict[int, _Task]:
    for name in files_below(root, (".json",)):
        content = (root / name).read_bytes()
        try:
            entries = json.loads(decode_text(content, root / name))
        except (ValueError, RecursionError, DatasetError):
            continue
        tasks = dict(_tasks_in(entries)) if isinstance(entries, list) else {}
        if tasks:
            return tasks
    raise DatasetError(
        f"{root}: the names of brush PNGs tell the number of the task, not its image. Export the same "
        f"project from Label Studio as JSON too, and put the file into {root}. Or export as COCO, which "
        "names the images."
    )


def _tasks_in(entries: Sequence[Any]) -> Iterator[tuple[int, _Task]]:
    """The tasks of an export as JSON, or as JSON-MIN, where a task is one flat record."""
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            continue
        data = entry.get("data", entry)
        if not isinstance(data, dict):
            continue
        image = next((value for value in data.values() if _is_image_name(value)), None)
        if image is None:
            continue
        regions = {
            item["id"]: [
                (str(result.get("from_name")), result["value"])
                for result in item.get("result") or ()
                if isinstance(result.get("value"), dict)
            ]
            for item in entry.get("annotations", entry.get("completions")) or ()
            if isinstance(item, dict) and isinstance(item.get("id"), int) and not item.get("was_cancelled")
        }
        brushes = {
            id: [(control, _labels(value)) for control, value in found if "rle" in value]
            for id, found in regions.items()
        }
        others = [
            value
            for found in regions.values()
            for _, value in found
            if "rle" not in value and ("points" in value or "x" in value)
        ]
        flat = [
            (key, _labels(value))
            for key, values in (entry.items() if data is entry else ())
            for value in (values if isinstance(values, list) else ())
            if isinstance(value, dict) and "rle" in value
        ]
        results = [*flat, *(result for found in brushes.values() for result in found)]
        yield (
            entry["id"],
            _Task(
                image=image,
                controls=frozenset(control for control, _ in results),
                labels=frozenset(label for _, label in results),
                num_brushes={id: len(found) for id, found in brushes.items()},
                num_others=len(others),
            ),
        )


def _labels(value: Mapping[str, Any]) -> str:
    """The labels of a region, as they stand in the name of a PNG."""
    labels = value.get("brushlabels") or value.get("labels")
    return "-".join(map(str, labels)) if isinstance(labels, list) else _NO_LABEL


def _is_image_name(value: Any) -> bool:
    return isinstance(value, str) and _file_name(value).lower().endswith(IMAGE_SUFFIXES)


def _file_name(address: str) -> str:
    """``a.jpg`` of ``/data/upload/1/a.jpg``, an URL, and ``/data/local-files/?d=images/a.jpg``."""
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [parts.path])[0]
    return unquote(path).replace("\\", "/").rpartition("/")[2]


# ---- images


def _images_by_name(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition("/")[2], []).append(name)
    return found


def _images_of_tasks(
    by_task: Mapping[int, Sequence[_Brush]],
    tasks: Mapping[int, _Task],
    images: Mapping[str, Sequence[str]],
    findings: list[Finding],
) -> Iterator[tuple[int, str]]:
    """The image file of each task: by its name, without the eight characters that an upload puts in front."""
    owner: dict[str, int] = {}
    for task, masks in by_task.items():
        if task not in tasks:
            message = f"task {task} is not in the JSON export, so its image is unknown; it was left out"
            findings.append(finding("source_unreadable", masks[0].file, message))
            continue
        name = _file_name(tasks[task].image)
        files = images.get(name) or images.get(re.sub(r"^[0-9a-f]{8}-", "", name)) or ()
        file = masks[0].file if masks else f"task {task}"
        if len(files) != 1:
            what = f"there are {len(files)} images {name}" if files else f"there is no image {name}"
            message = f"{what} for task {task}; the task was left out"
            findings.append(finding("image_missing", file, message))
        elif files[0] in owner:
            message = f"tasks {owner[files[0]]} and {task} are both for {files[0]}; task {task} was left out"
            findings.append(finding("source_shared", file, message))
        else:
            owner[files[0]] = task
            yield task, files[0]


def _read_images(
    root: Path,
    by_task: Mapping[int, Sequence[_Brush]],
    place_of_task: Mapping[int, str],
    tasks: Mapping[int, _Task],
    file_names: ImageNames,
    findings: list[Finding],
) -> Iterator[SourceImage]:
    sizes = image_sizes(root / name for name in place_of_task.values())
    soft, pieces = list[str](), list[str]()
    for task, name in place_of_task.items():
        masks = sorted(by_task[task], key=lambda mask: (mask.annotation, mask.rest, mask.number))
        annotations = sorted({mask.annotation for mask in masks})
        if len(annotations) > 1:
            message = (
                f"task {task} has {len(annotations)} annotations, {', '.join(map(str, annotations))}, of the "
                "same image; it was left out"
            )
            hint = "Keep the PNGs of one annotation. Move those of the others to another folder."
            findings.append(finding("source_shared", masks[0].file, message, hint=hint))
            continue
        expected = tasks[task].num_brushes.get(annotations[0], 0) if masks else 0
        if masks and expected > len(masks):
            message = (
                f"{len(masks)} brush PNGs for task {task}, but the JSON export has {expected} brush labels"
            )
            findings.append(finding("source_unreadable", masks[0].file, message))
        size = sizes[root / name]
        try:
            size_hw, objects = agreed_size(size, None, ""), []
            for mask in masks:
                pixels, has_soft_edges = read_binary_mask(root / mask.file)
                if has_soft_edges:
                    soft.append(mask.file)
                if num_large_pieces(pixels) > 1:
                    pieces.append(mask.file)
                size_hw = agreed_size(size, (pixels.shape[0], pixels.shape[1]), "the mask")
                label = _label_of(mask, tasks)
                if label == _NO_LABEL:
                    findings.append(finding("label_unknown", mask.file, "the brush region has no label"))
                elif not pixels.any():
                    findings.append(finding("shape_without_area", mask.file, "the mask is black"))
                else:
                    objects.append(SourceObject(label, mask_to_rle(pixels)))
        except DatasetError as error:
            findings.append(finding("source_unreadable", f"task {task}", str(error).rstrip(".")))
            continue
        wish = os.path.relpath(name, "images") if name.startswith("images/") else name.rpartition("/")[2]
        yield SourceImage(file_names.of_file(root / name, wish), size_hw, tuple(objects))
    if soft:
        message = f"{len(soft)} masks have gray values along edges; the first is {soft[0]}"
        findings.append(finding("mask_soft_edges", soft[0], message))
    if pieces:
        message = (
            f"{len(pieces)} brush labels have several pieces; each became one object; the first is "
            f"{pieces[0]}"
        )
        findings.append(finding("mask_several_pieces", pieces[0], message))


def _label_of(mask: _Brush, tasks: Mapping[int, _Task]) -> str:
    """The labels in the name of the PNG, without the name of the control in front."""
    for control in sorted(tasks[mask.task].controls, key=len, reverse=True):
        label = mask.rest.removeprefix(f"{control}-")
        if label != mask.rest and label in tasks[mask.task].labels:
            return label
    return mask.rest.partition("-")[2] or mask.rest


def _with_listed(image: SourceImage, listed: Mapping[str, str | None]) -> SourceImage:
    """The image with the labels as they are listed, without the objects of other labels."""
    named = ((item, listed[item.label]) for item in image.objects)
    return replace(image, objects=tuple(replace(item, label=name) for item, name in named if name))
