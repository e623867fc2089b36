"""The check of a data set: read all images and annotations, then apply every rule."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from paddlex_seg.data.checking.across import check_across
from paddlex_seg.data.checking.frames import Part, label_frames
from paddlex_seg.data.checking.measures import measure
from paddlex_seg.data.checking.missing import search_missing, with_search
from paddlex_seg.data.checking.rules import RULES, Split
from paddlex_seg.data.checking.scan import scan_images
from paddlex_seg.data.checking.statistics import SplitShapes
from paddlex_seg.data.coco.paths import DatasetPaths, dataset_paths
from paddlex_seg.data.coco.read import ParsedCoco, UnreadableFile, parse_coco, parse_file
from paddlex_seg.data.conversion_errors import conversion_errors
from paddlex_seg.data.findings import KINDS, Finding, summarize_problems
from paddlex_seg.data.image_facts import Decode
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Bands, CocoFile

Progress = Callable[[int, int], None]  # images finished since the last call, images in all


@dataclass(frozen=True)
class CheckReport:
    """A data set and its findings."""

    paths: DatasetPaths
    splits: Mapping[str, CocoFile]  # the valid records, by name: train, val, and test if there is one
    shapes: Mapping[str, SplitShapes]
    findings: tuple[Finding, ...]  # the first thousand of each code and file
    counts: Mapping[str, int]  # number of all findings, by code

    @property
    def train(self) -> CocoFile:
        """The training annotations."""
        return self.splits["train"]

    @property
    def val(self) -> CocoFile:
        """The validation annotations."""
        return self.splits["val"]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The kept findings that are errors."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def number_of(self, severity: str) -> int:
        """Number of findings of a severity, kept or not."""
        return sum(count for code, count in self.counts.items() if KINDS[code].severity == severity)

    def with_findings(self, findings: Iterable[Finding]) -> "CheckReport":
        """A copy of this report with more findings in front, such as those of a conversion.

        Errors of the conversion that the check found in the data set are not repeated.
        """
        known = {(item.code, item.file, item.message) for item in self.findings}
        findings = [item for item in findings if (item.code, item.file, item.message) not in known]
        counts = Counter(finding.code for finding in findings)
        return replace(self, findings=(*findings, *self.findings), counts=dict(counts + Counter(self.counts)))

    def raise_for_errors(self) -> None:
        """If there are errors, raises DatasetError with the first errors and the number of the others."""
        if self.errors:
            where = f"Check dataset failed, {self.paths.root}"
            problems = [str(finding) for finding in self.errors]
            raise DatasetError(summarize_problems(where, problems, count=self.number_of("error")))


def check(
    dataset_dir: Path,
    decode: Decode = "thumbnail",
    *,
    bands: Bands | None = None,
    cache_file: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> CheckReport:
    """Check every image and annotation with every rule.

    decode: how much of each image file is read, see `image_facts.inspect_image`. Duplicates need thumbnails.
    bands: how images are read, see `images.load_image`. cache_file: cache of image facts for the next check.
    Raises DatasetError when there is no data set in ``dataset_dir``. All other problems are in the report.
    """
    paths = dataset_paths(dataset_dir)
    parsed = _parse_all(paths)
    names = [record.file_name for part in parsed.values() for record in part.coco.images]
    stopped = Event()

    def report_progress(count: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        progress(count, len(names))

    with ThreadPoolExecutor(max_workers=1) as pool:  # images are scanned while masks are measured
        scan = pool.submit(
            scan_images,
            paths.image_dir,
            names,
            decode,
            bands=bands,
            cache_file=cache_file,
            progress=report_progress,
        )
        try:
            measures = {name: measure(part.coco) for name, part in parsed.items()}
            scanned = dict(zip(names, scan.result(), strict=True))
            found = search_missing(paths.image_dir, scanned)
        except BaseException:  # stop the scan, so that Ctrl-C does not wait for the last image
            stopped.set()
            raise
    facts = with_search(scanned, found, paths.image_dir.name)
    parts = [Part(part, measures[name]) for name, part in parsed.items()]
    splits = {
        name: Split(part, measures[name], {r.id: facts[r.file_name] for r in part.coco.images}, frames)
        for (name, part), frames in zip(
            parsed.items(), label_frames(paths.image_dir, parts, facts), strict=True
        )
    }
    logs = [part.log for part in parsed.values()]
    for split in splits.values():
        for rule in RULES:
            rule(split, split.parsed.log)
    meant = {match.name for match in found.values() if match.name is not None}
    logs += check_across(paths, dataset_dir, splits, meant)
    report = CheckReport(
        paths=paths,
        splits={name: split.coco for name, split in splits.items()},
        shapes={name: _shapes(split) for name, split in splits.items()},
        findings=tuple(finding for log in logs for finding in log.kept),
        counts=dict(sum((log.counts for log in logs), Counter())),
    )
    return report.with_findings(conversion_errors(paths.root))


def empty_report(root: Path, findings: Sequence[Finding]) -> CheckReport:
    """The report about a data set without any record, such as that of a conversion that kept nothing."""
    annotations = root / "annotations"
    files = {name: annotations / f"instance_{name}.json" for name in ("train", "val", "test")}
    splits = {name: CocoFile(files[name], (), (), ()) for name in ("train", "val")}
    shapes = {name: SplitShapes(coco, np.zeros(0), np.zeros((0, 4))) for name, coco in splits.items()}
    return CheckReport(
        paths=DatasetPaths(root, root / "images", files["train"], files["val"], files["test"]),
        splits=splits,
        shapes=shapes,
        findings=tuple(findings),
        counts=dict(Counter(finding.code for finding in findings)),
    )


_SPLIT_HINT = (
    "Copy the annotation file there. To divide the images of the other files into train and val, set "
    "CheckDataset.split.enable=True, CheckDataset.split.train_percent=80, CheckDataset.split.val_percent=20."
)


def _parse_all(paths: DatasetPaths) -> dict[str, ParsedCoco]:
    files = {"train": paths.train_json, "val": paths.val_json}
    if paths.test_json.is_file():
        files["test"] = paths.test_json
    parsed = {}
    for name, path in files.items():
        try:
            parsed[name] = parse_file(path)
        except UnreadableFile as error:
            empty: dict[str, list[object]] = {"images": [], "categories": [], "annotations": []}
            parsed[name] = parse_coco(empty, path)
            others = any(other.is_file() for key, other in files.items() if key != name)
            hint = _SPLIT_HINT if error.finding.code == "json_missing" and others else None
            parsed[name].log.add(error.finding.code, error.finding.message, hint=hint)
    return parsed


def _shapes(split: Split) -> SplitShapes:
    outlines = split.measures.cut_outlines_xyxy
    boxes = np.concatenate([outlines[:, :2], outlines[:, 2:] - outlines[:, :2]], axis=1)
    return SplitShapes(coco=split.coco, areas=split.measures.areas, boxes_xywh=boxes)
