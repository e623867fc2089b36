"""Dataset checks. A rule looks at one thing, reads nothing from disk, and yields findings."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddlex_seg.data.coco import (
    DatasetPaths,
    PictureSize,
    dataset_paths,
    image_path,
    picture_size,
    read_coco,
    same_categories,
    summarize_problems,
)
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import CocoFile, ImageRecord


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, about a data set."""

    code: str  # stable name of the rule
    severity: Literal["error", "warning", "info"]  # errors fail the check, the others are only reported
    file: str  # name of the annotation file
    image_id: int | None
    annotation_id: int | None
    message: str  # what is wrong, with the wrong value
    hint: str  # what to do about it

    def __str__(self) -> str:
        image = "" if self.image_id is None else f", image {self.image_id}"
        annotation = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{image}{annotation}: {self.message}. {self.hint}"


@dataclass(frozen=True)
class CheckReport:
    """A data set and what the rules found in it."""

    paths: DatasetPaths
    train: CocoFile
    val: CocoFile
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the data set unusable."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_for_errors(self) -> None:
        """Raises DatasetError listing the first errors, and how many more there are, if there are any."""
        if self.errors:
            where = f"Check dataset failed, {self.paths.root}"
            raise DatasetError(summarize_problems(where, [str(finding) for finding in self.errors]))


@dataclass(frozen=True)
class Split:
    """What a rule sees: an annotation file and, by image id, each picture's header or why there is none."""

    coco: CocoFile
    headers: Mapping[int, PictureSize | DatasetError]


def check(dataset_dir: Path) -> CheckReport:
    """Every picture and annotation of both splits, looked at by every rule.

    Raises DatasetError when there is no data set in ``dataset_dir`` or an annotation file has structural
    problems; those of both files are in the message.
    """
    paths = dataset_paths(dataset_dir)
    train, val = (
        Split(coco, _read_headers(coco, paths.image_dir))
        for coco in _read_both(paths.train_json, paths.val_json)
    )
    findings = [finding for split in (train, val) for rule in RULES for finding in rule(split)]
    findings += [finding for rule in PAIR_RULES for finding in rule(train, val)]
    return CheckReport(paths=paths, train=train.coco, val=val.coco, findings=tuple(findings))


def split_has_pictures(split: Split) -> Iterator[Finding]:
    """Without pictures there is nothing to train on or to measure."""
    if not split.coco.images:
        yield _finding(
            "split_has_pictures", split, "it lists no pictures", "Add pictures, or split the data again."
        )


def split_has_annotations(split: Split) -> Iterator[Finding]:
    """A split whose pictures are all without objects teaches nothing and scores nothing."""
    if split.coco.images and not split.coco.annotations:
        yield _finding(
            "split_has_annotations", split, "it has no annotations", "Annotate pictures, or split again."
        )


def pictures_are_readable(split: Split) -> Iterator[Finding]:
    """Each listed picture lies inside the folder, exists, and starts like a picture."""
    for record in split.coco.images:
        header = split.headers[record.id]
        if isinstance(header, DatasetError):
            yield _finding("pictures_are_readable", split, *_message_and_hint(header), image=record)


def pictures_have_the_listed_size(split: Split) -> Iterator[Finding]:
    """A mask fits only the size of picture that it was drawn on, turned by its EXIF orientation or not."""
    for record in split.coco.images:
        header = split.headers[record.id]
        listed = (record.height, record.width)
        if isinstance(header, PictureSize) and listed not in (header.shown_hw, header.stored_hw):
            yield _finding(
                "pictures_have_the_listed_size",
                split,
                f"{record.file_name} is {_by(header.shown_hw)} pixels (width x height), not {_by(listed)}",
                "Correct width and height, or put back the picture that was annotated.",
                image=record,
            )


def pictures_are_listed_upright(split: Split) -> Iterator[Finding]:
    """A listed size without the EXIF orientation says that objects were drawn on the unturned picture."""
    for record in split.coco.images:
        header = split.headers[record.id]
        listed = (record.height, record.width)
        if isinstance(header, PictureSize) and listed == header.stored_hw != header.shown_hw:
            yield _finding(
                "pictures_are_listed_upright",
                split,
                f"{record.file_name} lies on its side, and is listed without its EXIF orientation",
                "It is used unturned; see in the drawn samples that the masks fit.",
                severity="warning",
                image=record,
            )


def file_names_are_unique(split: Split) -> Iterator[Finding]:
    """A picture listed twice has its objects torn apart: each entry misses those of the other."""
    for file_name, count in Counter(record.file_name for record in split.coco.images).items():
        if count > 1:
            message = f"{file_name} is listed {count} times"
            yield _finding("file_names_are_unique", split, message, "List it once, with all its annotations.")


def category_names_are_unique(split: Split) -> Iterator[Finding]:
    """Two classes of one name cannot be told apart in any result."""
    for name, count in Counter(category.name for category in split.coco.categories).items():
        if count > 1:
            message = f"{count} categories are called {name!r}"
            yield _finding("category_names_are_unique", split, message, "Rename or merge them.")


def pictures_have_objects(split: Split) -> Iterator[Finding]:
    """Pictures without objects are fine as background, but often somebody forgot to label them."""
    annotated = {annotation.image_id for annotation in split.coco.annotations}
    empty = [record.file_name for record in split.coco.images if record.id not in annotated]
    if empty:
        named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        message = f"{len(empty)} of {len(split.coco.images)} pictures have no annotation ({named})"
        hint = "They count as background; label them if they show objects."
        yield _finding("pictures_have_objects", split, message, hint, severity="info")


def splits_share_categories(train: Split, val: Split) -> Iterator[Finding]:
    """The classes of val are those of train, in the same order."""
    try:
        same_categories(train.coco, val.coco)
    except DatasetError as error:
        yield _finding(
            "splits_share_categories",
            val,
            " ".join(str(error).split()),
            "Give both files the list of the train file.",
        )


RULES: tuple[Callable[[Split], Iterator[Finding]], ...] = (
    split_has_pictures,
    split_has_annotations,
    pictures_are_readable,
    pictures_have_the_listed_size,
    pictures_are_listed_upright,
    file_names_are_unique,
    category_names_are_unique,
    pictures_have_objects,
)
PAIR_RULES: tuple[Callable[[Split, Split], Iterator[Finding]], ...] = (splits_share_categories,)


def _read_both(*paths: Path) -> list[CocoFile]:
    files, problems = [], []
    for path in paths:
        try:
            files.append(read_coco(path))
        except DatasetError as error:
            problems.append(str(error))
    if problems:
        raise DatasetError("\n".join(problems))
    return files


def _read_headers(coco: CocoFile, image_dir: Path) -> dict[int, PictureSize | DatasetError]:
    def header(record: ImageRecord) -> PictureSize | DatasetError:
        try:
            return picture_size(image_path(image_dir, record.file_name))
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(max_workers=8) as pool:  # it waits for the disk, not for the processor
        headers = pool.map(header, coco.images)
        return {record.id: found for record, found in zip(coco.images, headers, strict=True)}


def _finding(
    code: str,
    split: Split,
    message: str,
    hint: str,
    severity: Literal["error", "warning", "info"] = "error",
    image: ImageRecord | None = None,
) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        file=split.coco.path.name,
        image_id=None if image is None else image.id,
        annotation_id=None,
        message=message,
        hint=hint,
    )


def _message_and_hint(error: DatasetError) -> tuple[str, str]:
    """The sentences of an error; the last one says what to do."""
    message, _, hint = str(error).rpartition(". ")
    return message, hint


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
