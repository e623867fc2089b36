"""Mode check_dataset: convert, split, repair; then: is the data fit to train on, and what does it hold?"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg import __version__
from paddlex_seg.config.schema import Config
from paddlex_seg.data.checking.check import CheckReport, check
from paddlex_seg.data.checking.repair.repaired_copy import Repair, repair_dataset
from paddlex_seg.data.checking.scan import content_digest
from paddlex_seg.data.checking.statistics import class_table, picture_table, size_table
from paddlex_seg.data.coco.instances import annotations_to_instances
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.findings import KINDS, Finding, summarize_problems
from paddlex_seg.data.images import Decode, image_path, load_image
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.json import write_json
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.reports.charts import draw_histogram
from paddlex_seg.reports.dataset import write_report
from paddlex_seg.runtime.log import progress_bar
from paddlex_seg.structures import Annotation, CocoFile
from paddlex_seg.visualize import draw_instances

_LOGGER = logging.getLogger(__name__)
_SAMPLES_PER_SPLIT = 10
_EXAMPLES_PER_CODE = 3  # in the log


def run(cfg: Config) -> dict[str, Any]:
    """The result of a data set that passes, for ``check_dataset_result.json``.

    Converts, splits and repairs first where the configuration asks for it. Draws samples and a histogram
    and writes a report into ``<output>/check_dataset``; the paths in the result are relative to the output
    folder. Samples are counted in pictures.
    Raises DatasetError listing what is wrong; the result file then holds ``check_pass`` false and the
    findings.
    """
    settings = cfg.CheckDataset
    dataset_dir, output_dir = Path(cfg.Global.dataset_dir), Path(cfg.Global.output)
    try:
        converted = prepare(
            dataset_dir,
            output_dir,
            ConvertSettings(**settings.convert.model_dump()),
            SplitSettings(**settings.split.model_dump()),
        )
        repair = None
        if settings.fix.enable:
            repair = repair_dataset(dataset_dir, Path(settings.fix.dst_dir) if settings.fix.dst_dir else None)
            _say_repair(repair)
            dataset_dir = repair.root
        return check_and_draw(dataset_dir, output_dir, settings.decode, converted=converted, repair=repair)
    except DatasetError:
        if not result_path(output_dir, "check_dataset").is_file():
            write_result(output_dir, "check_dataset", {"check_pass": False})
        raise


def check_and_draw(
    dataset_dir: Path,
    output_dir: Path,
    decode: Decode = "thumbnail",
    *,
    converted: Sequence[Finding] = (),
    repair: Repair | None = None,
) -> dict[str, Any]:
    """Check, report, draw, count: what `run` does once the data set is in place.

    converted: findings of a conversion, which count like those of the check.
    """
    cache = _Cache(output_dir)
    fingerprint = None if converted or repair else _fingerprint(dataset_dir, decode)
    result = cache.earlier_result(fingerprint)
    if result is None:
        report = _check(dataset_dir, decode, cache.pictures, converted)
        result = _report(report, output_dir)
        if repair is not None:
            result["fix"] = _repair_entry(repair)
        if fingerprint is not None:
            cache.keep(fingerprint, result)
    else:
        _LOGGER.info("Nothing has changed since the last check; this is its result.")
    _say_findings(result)
    if not result["check_pass"]:
        write_result(output_dir, "check_dataset", result)
        errors = [str(Finding(**item)) for item in result["findings"] if item["severity"] == "error"]
        count = sum(n for code, n in result["finding_counts"].items() if KINDS[code].severity == "error")
        raise DatasetError(summarize_problems(f"Check dataset failed, {dataset_dir}", errors, count=count))
    _LOGGER.info("Check dataset passed !")
    return result


def _check(dataset_dir: Path, decode: Decode, cache_file: Path, converted: Sequence[Finding]) -> CheckReport:
    with progress_bar("pictures", total=None) as advance:
        report = check(
            dataset_dir,
            decode,
            cache_file=cache_file,
            progress=lambda done, total: advance(steps=done, total=total),
        )
    return report.with_findings(converted)


def _report(report: CheckReport, output_dir: Path) -> dict[str, Any]:
    """Write the report and, of a data set that passes, the pictures; the whole result."""
    folder = output_dir / "check_dataset"
    folder.mkdir(parents=True, exist_ok=True)
    passed = not report.number_of("error")
    table = class_table(report.shapes)
    samples = {
        name: _draw_samples(report.splits[name], report, output_dir) if passed else []
        for name in ("train", "val")
    }
    histogram = _draw_histogram(table, output_dir) if passed else None
    write_report(
        folder / "report.html",
        title=str(report.paths.root),
        image_dir=report.paths.image_dir,
        shapes=report.shapes,
        findings=report.findings,
        counts=report.counts,
        passed=passed,
    )
    _LOGGER.info(f"Report: {folder / 'report.html'}")
    return {
        "check_pass": passed,
        "attributes": {
            "num_classes": len(report.train.categories),
            "train_samples": len(report.train.images),
            "train_sample_paths": samples["train"],
            "val_samples": len(report.val.images),
            "val_sample_paths": samples["val"],
            "train_annotations": len(report.train.annotations),
            "val_annotations": len(report.val.annotations),
            "class_counts": table,
            "object_sizes": size_table(report.shapes),
            "pictures": picture_table(report.shapes),
        },
        "analysis": {"histogram": histogram, "report": "check_dataset/report.html"},
        "dataset_path": report.paths.root.resolve().name,
        "show_type": "image",
        "dataset_type": "COCOInstSegDataset",
        "finding_counts": dict(report.counts),
        "findings": [asdict(finding) for finding in report.findings],
    }


# ---- what is kept for the next time


@dataclass(frozen=True)
class _Cache:
    """The result of the last check, and what was seen of each picture."""

    output_dir: Path

    @property
    def pictures(self) -> Path:
        return self.output_dir / "check_dataset" / "cache" / "pictures.jsonl"

    @property
    def last(self) -> Path:
        return self.output_dir / "check_dataset" / "cache" / "last.json"

    def earlier_result(self, fingerprint: str | None) -> dict[str, Any] | None:
        """The last result if it is of data with this fingerprint, and all that it names is still there."""
        try:
            kept = json.loads(self.last.read_text(encoding="utf-8"))
            result = kept["result"]
            attributes, analysis = result["attributes"], result["analysis"]
            names = [*attributes["train_sample_paths"], *attributes["val_sample_paths"], *analysis.values()]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        there = all((self.output_dir / name).is_file() for name in names if name is not None)
        return result if there and kept["fingerprint"] == fingerprint else None

    def keep(self, fingerprint: str, result: Mapping[str, Any]) -> None:
        self.last.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.last, {"fingerprint": fingerprint, "result": result}, indent=None)


def _fingerprint(dataset_dir: Path, decode: Decode) -> str | None:
    """Of the bytes of the annotation files, and of name, size and time of change of every picture.

    None where folders of pictures are links: what changes behind those is not seen.
    """
    paths = dataset_paths(dataset_dir)
    digest = hashlib.blake2b(f"{__version__} {decode} {paths.root.resolve()}".encode(), digest_size=16)
    for path in (paths.train_json, paths.val_json, paths.test_json):
        digest.update(content_digest(path) if path.is_file() else b"-")
    for folder, folders, names in os.walk(paths.image_dir):
        folders.sort()
        if any(os.path.islink(os.path.join(folder, name)) for name in folders):
            return None
        for name in sorted(names):
            line = f"{folder}/{name} {_state_of(os.path.join(folder, name))}\n"
            digest.update(line.encode(errors="replace"))
    return digest.hexdigest()


def _state_of(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "-"  # a link that leads nowhere
    return f"{status.st_size} {status.st_mtime_ns}"


# ---- what is said


def _say_findings(result: Mapping[str, Any]) -> None:
    """For each code: how often, and the first examples. Errors are listed when the check fails."""
    by_code: dict[str, list[Finding]] = {}
    for item in result["findings"]:
        by_code.setdefault(item["code"], []).append(Finding(**item))
    for code, count in result["finding_counts"].items():
        severity = KINDS[code].severity
        if severity == "error":
            continue
        examples = [
            f"  {str(finding).removesuffix(finding.hint).rstrip()}"
            for finding in by_code.get(code, [])[:_EXAMPLES_PER_CODE]
        ]
        more = [f"  ... and {count - len(examples)} more"] * (count > len(examples))
        text = "\n".join([f"{severity} {code} ({count}): {KINDS[code].meaning}", *examples, *more])
        _LOGGER.log(logging.WARNING if severity == "warning" else logging.INFO, text)


def _say_repair(repair: Repair) -> None:
    if repair.written:
        _LOGGER.info(f"Repaired copy: {repair.root}; what was changed is in {repair.log_file}")
    else:
        _LOGGER.info(f"{repair.root} is the repaired copy already; nothing was written.")
    for code, count in repair.counts.items():
        _LOGGER.info(f"repaired {code} ({count}): {KINDS[code].repair}")


def _repair_entry(repair: Repair) -> dict[str, Any]:
    return {
        "path": str(repair.root),
        "log": str(repair.log_file),
        "repaired": dict(repair.counts),
    }


# ---- what is drawn


def _draw_samples(coco: CocoFile, report: CheckReport, output_dir: Path) -> list[str]:
    """Draw the first pictures of a split; gives back their paths relative to ``output_dir``."""
    names = [category.name for category in coco.categories]
    records = coco.images[:_SAMPLES_PER_SPLIT]
    annotations: dict[int, list[Annotation]] = {record.id: [] for record in records}
    for annotation in coco.annotations:
        if annotation.image_id in annotations:
            annotations[annotation.image_id].append(annotation)
    paths = []
    for record in records:
        source = image_path(report.paths.image_dir, record.file_name)
        image = load_image(source, size_hw=(record.height, record.width))
        instances = annotations_to_instances(annotations[record.id], record, coco.categories)
        drawn = draw_instances(image, instances, names, show_scores=False)
        path = _sample_path(output_dir / "check_dataset" / "demo_img", record.file_name)
        _save(drawn, path)
        paths.append(path.relative_to(output_dir).as_posix())
    return paths


def _sample_path(folder: Path, file_name: str) -> Path:
    """Where a sample is saved: under its own name, or as PNG if Pillow cannot write files of that kind."""
    path = image_path(folder, file_name)
    can_write = Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE
    return path if can_write else path.with_name(f"{path.name}.png")


def _draw_histogram(table: Sequence[dict[str, Any]], output_dir: Path) -> str:
    names, train, val = ([row[key] for row in table] for key in ("name", "train", "val"))
    path = output_dir / "check_dataset" / "histogram.png"
    _save(draw_histogram(names, train, val), path)
    return path.relative_to(output_dir).as_posix()


def _save(image: NDArray[np.uint8], path: Path) -> None:
    """Write a picture, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    Image.fromarray(image).save(temporary, quality=92)
    os.replace(temporary, path)
