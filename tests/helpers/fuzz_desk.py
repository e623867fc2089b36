"""Runs check_dataset on a damaged data set as a user does, and judges what came of the objects.

The whole command line runs. Samples, histogram and page, which take 0.2 seconds, are drawn on request only.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from cases import Desk, check_dataset
from fuzz_cases import Mutation, Source
from fuzz_scenes import Found, Scene, image_key

import paddlex_seg.modes.check_dataset as mode
from paddlex_seg.data.checking.check import CheckReport
from paddlex_seg.data.findings import KINDS
from paddlex_seg.masks.rle import annotation_to_rle, rle_to_mask


@dataclass(frozen=True)
class Run:
    """One run of check_dataset, and the data set that a training would get after it."""

    desk: Desk
    report: CheckReport | None  # None: the run ended before the check

    @property
    def passed(self) -> bool:
        return self.desk.exit_code == 0

    @property
    def repaired(self) -> dict[str, int]:
        """Number of repaired findings by code."""
        return dict(self.desk.result.get("fix", {}).get("repaired", {}))

    @property
    def removed_records(self) -> bool:
        """Whether the repair removed annotations, or images that were not listed twice, by its log."""
        log = self.desk.result.get("fix", {}).get("log")
        if log is None:
            return False
        files = json.loads(Path(log).read_text(encoding="utf-8"))["files"].values()
        changes = [change for file in files for change in file["changes"]]
        removed = [change for change in changes if change["list"] != "categories" and change["after"] is None]
        return any("file_name_duplicate" not in change["codes"] for change in removed)

    @property
    def warned(self) -> list[str]:
        """Codes of findings that are more than information."""
        return [code for code in self.desk.codes if KINDS[code].severity != "info"]

    def objects(self) -> list[Found]:
        """The objects that a training would get."""
        assert self.report is not None
        found = []
        for split, coco in self.report.splits.items():
            records = {record.id: record for record in coco.images}
            labels = {category.id: category.name for category in coco.categories}
            keys = {id: _key_of(self.report, record.file_name) for id, record in records.items()}
            for item in coco.annotations:
                record = records[item.image_id]
                mask = rle_to_mask(annotation_to_rle(item, record.height, record.width))
                if not mask.any():
                    continue  # nothing to learn from; the object counts as lost
                packed = np.packbits(np.ascontiguousarray(mask)).tobytes()
                found.append(
                    Found(split, keys[record.id], labels[item.category_id], packed, bool(item.iscrowd))
                )
        return found

    def images(self) -> list[tuple[str, str]]:
        """The images that a training would get: split and key."""
        assert self.report is not None
        return [
            (split, _key_of(self.report, record.file_name))
            for split, coco in self.report.splits.items()
            for record in coco.images
        ]


def _key_of(report: CheckReport, file_name: str) -> str:
    try:
        return image_key((report.paths.image_dir / file_name).read_bytes())
    except (OSError, ValueError):
        return f"unreadable: {file_name}"


@contextmanager
def watched(drawn: bool) -> Iterator[list[CheckReport]]:
    """The context is the list of all reports. Without drawings, a check takes a few milliseconds."""
    reports: list[CheckReport] = []
    real = mode.check

    def checked(*arguments: Any, **options: Any) -> CheckReport:
        reports.append(real(*arguments, **options))
        return reports[-1]

    def empty_file(*arguments: Any, **options: Any) -> Path:
        path: Path = arguments[-1]
        path.write_bytes(b"")
        return path

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(mode, "check", checked))
        if not drawn:
            patches.enter_context(mock.patch.object(mode, "draw_samples", lambda *arguments: []))
            patches.enter_context(mock.patch.object(mode, "save_histogram", empty_file))
            patches.enter_context(mock.patch.object(mode, "write_report", empty_file))
        yield reports


def run_desk(dataset_dir: Path, output: Path, drawn: bool, **options: Any) -> Run:
    """Run check_dataset, with or without samples, histogram and page."""
    with watched(drawn) as reports:
        desk = check_dataset(dataset_dir, output, **options)
    return Run(desk, reports[-1] if reports else None)


@dataclass(frozen=True)
class Outcome:
    """What a damaged data set led to."""

    faults: tuple[str, ...]  # what must never happen
    recovered: frozenset[str]  # the ways that passed with all objects

    def __str__(self) -> str:
        return f"recovered by {', '.join(sorted(self.recovered))}" if self.recovered else "refused"


FIX = {"CheckDataset__fix__enable": True}
MEMORY = Path("/dev/shm")  # a disk would take longer than the runs: every file is flushed


class Unfit(Exception):
    """A mutation cannot be applied to what an earlier one left."""


def damage(source: Source, mutations: Sequence[Mutation[Any]], rng: random.Random) -> None:
    """Apply the mutations: first those that keep all there is. Raises Unfit when they do not go together."""
    order = ("lossless", "ambiguous", "lossy")
    for number, mutation in enumerate(sorted(mutations, key=lambda mutation: order.index(mutation.label))):
        try:
            mutation.apply(source, rng)
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as problem:
            if number == 0:
                raise
            raise Unfit(f"{mutation} after others: {problem}") from problem
    try:
        source.finish()
    except (IndexError, ValueError) as problem:  # such as a name that an encoding has not
        raise Unfit(str(problem)) from problem


def ways_of(format_name: str) -> dict[str, dict[str, Any]]:
    """What a user may do with a data set of this format, and the options for it."""
    if format_name == "COCO":
        return {"check": {}, "fix": FIX}
    convert = {"CheckDataset__convert__enable": True, "CheckDataset__convert__src_dataset_type": format_name}
    by_itself = {**convert, "CheckDataset__convert__src_dataset_type": "auto"}
    return {"check": {}, "convert": convert, "convert and fix": {**convert, **FIX}, "auto": by_itself}


def examine(
    format_name: str,
    source_type: type[Source],
    scene: Scene,
    mutations: Sequence[Mutation[Any]],
    seed: int,
    ways: Collection[str],
    drawn: bool = False,
) -> Outcome:
    """Damage a data set, run the mode in these ways (`ways_of`), and judge. A fault names the way.

    ``format_name``: "COCO", or what ``CheckDataset.convert.src_dataset_type`` says. Raises Unfit when the
    mutations do not go together.
    """
    source = source_type(scene)
    damage(source, mutations, random.Random(seed))
    judge = Judge(source, lossless=all(mutation.label == "lossless" for mutation in mutations))
    place = Path(tempfile.mkdtemp(prefix="fuzz", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        for number, way in enumerate(ways):
            root = place / f"data{number}"
            source.write(root)
            before = _contents(root)
            run = run_desk(root, place / f"output{number}", drawn=drawn, **ways_of(format_name)[way])
            judge.look_at(way, run)
            after = _contents(root)
            changed = [name for name, content in before.items() if after.get(name) != content]
            if changed and not all(name.endswith(source.may_change) for name in changed):
                judge.faults.append(f"{way}: files of the data set were changed: {changed}")
            if "fix" in way and run.report is not None and "fix" in run.desk.result:
                again = run_desk(run.report.paths.root, place / f"output{number} again", drawn=drawn, **FIX)
                judge.compare(f"{way}, and again", run, again)
    finally:
        shutil.rmtree(place)
    return Outcome(tuple(judge.faults), frozenset(judge.recovered))


class Judge:
    """Compares what a run found with what is true, and collects faults."""

    def __init__(self, source: Source, lossless: bool) -> None:
        self.source = source
        self.lossless = lossless
        self.faults: list[str] = []
        self.recovered: set[str] = set()

    def look_at(self, way: str, run: Run) -> None:
        """Judge one run."""
        text = run.desk.text
        if "Traceback" in text:
            self.faults.append(f"{way}: traceback, {text.strip().splitlines()[-1]}")
            return
        if not run.passed:
            if run.desk.exit_code not in (2, 3) or "Error: " not in text:
                self.faults.append(f"{way}: exit code {run.desk.exit_code} without a message")
            return
        if run.report is None:
            self.faults.append(f"{way}: passed without a check")
            return
        # An image without labels may be meant, so information is enough for it.
        said = bool(run.warned or run.repaired or "image_without_objects" in run.desk.codes)
        found, expected = self._plain(run.objects()), self._plain(self.source.truth)
        wrong = found - expected
        if said:  # another reading needs a word
            wrong -= self._plain(self.source.allowed)
            wrong = Counter({item: n for item, n in wrong.items() if item.image not in self.source.doubtful})
        if wrong:
            self.faults.append(f"{way}: passed with {_text(wrong)}; true is {_text(expected)}")
            return
        lost = sum((expected - found).values())
        images = {key for _, key in run.images()}
        gone = [image.name for image in self.source.scene.images if image.key not in images]
        if not lost and not gone:
            self.recovered.add(way)
            return
        what = f"passed with {lost} objects and {len(gone)} images fewer"
        if self.lossless:
            self.faults.append(f"{way}: {what} ({sorted(run.desk.codes)}, repaired {run.repaired})")
        elif not said and (lost or run.desk.codes.get("image_unreferenced", 0) < len(gone)):
            # Images without objects that each are named as listed nowhere are no loss of annotations.
            self.faults.append(f"{way}: {what}, and no word about it")
        elif run.removed_records:
            self.faults.append(f"{way}: {what}; the repair removed records {run.repaired}")

    def compare(self, way: str, first: Run, second: Run) -> None:
        """A repaired data set needs no repair, and has the same findings."""
        text = second.desk.text
        if "Traceback" in text:
            self.faults.append(f"{way}: traceback, {text.strip().splitlines()[-1]}")
        elif second.repaired:
            self.faults.append(f"{way}: repaired {second.repaired}, after {first.repaired}")
        elif first.passed > second.passed:
            self.faults.append(f"{way}: exit code 0, then {second.desk.exit_code}")
        elif first.report is None or second.report is None:
            self.faults.append(f"{way}: no check")
        elif first.report.counts != second.report.counts:
            self.faults.append(f"{way}: {dict(first.report.counts)}, then {dict(second.report.counts)}")
        elif Counter(first.objects()) != Counter(second.objects()):
            self.faults.append(f"{way}: other objects")

    def _plain(self, objects: Sequence[Found]) -> Counter[Found]:
        """The objects, without what the source does not say."""
        kept = self.source
        return Counter(
            Found(
                item.split if kept.splits_are_kept else "",
                item.image,
                item.label if kept.classes_are_kept else "",
                item.mask,
                item.is_crowd,
            )
            for item in objects
        )


def _text(objects: Counter[Found]) -> str:
    parts = [
        f"{item.split} {item.label} of {int(np.unpackbits(np.frombuffer(item.mask, np.uint8)).sum())} px"
        + (" (crowd)" if item.is_crowd else "")
        + (f" in {item.image}" if item.image.startswith("unreadable") else "")
        for item in objects.elements()
    ]
    return ", ".join(sorted(parts)) or "nothing"


def _contents(root: Path) -> dict[str, str]:
    """A digest of each file below ``root``."""
    return {
        str(path.relative_to(root)): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
