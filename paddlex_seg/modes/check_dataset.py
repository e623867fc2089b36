"""Mode check_dataset: convert, split and repair a data set, then check it and report its statistics."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.data.checking.cache import CheckCache, fingerprint_of
from paddlex_seg.data.checking.check import CheckReport, check, empty_report
from paddlex_seg.data.checking.messages import log_findings, log_repair
from paddlex_seg.data.checking.repair.repaired_copy import Repair, repair_dataset
from paddlex_seg.data.checking.result import check_result
from paddlex_seg.data.checking.statistics import class_table
from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.findings import KINDS, Finding, finding, summarize_problems
from paddlex_seg.data.image_facts import Decode
from paddlex_seg.data.preparation.convert import NothingConverted, Prepared
from paddlex_seg.data.preparation.prepare import prepare
from paddlex_seg.data.preparation.settings import ConvertSettings, SplitSettings
from paddlex_seg.errors import DatasetError, ForeignDataset, UnclearDataset
from paddlex_seg.files.written import claimed
from paddlex_seg.fonts import unwritable_notice
from paddlex_seg.modes.result_file import result_path, write_result
from paddlex_seg.reports.dataset import write_report
from paddlex_seg.reports.samples import draw_samples, save_histogram
from paddlex_seg.runtime.log import progress_bar
from paddlex_seg.structures import Bands

_LOGGER = logging.getLogger(__name__)
_CONVERT = "Set CheckDataset.convert.enable=True and CheckDataset.convert.src_dataset_type=auto."


def run(cfg: Config) -> dict[str, Any]:
    """Check a data set. Returns the content of ``check_dataset_result.json`` when the data set passes.

    Converts, splits and repairs first when the configuration enables it. Draws samples and a histogram
    and writes a report into ``<output>/check_dataset``. Paths in the result are relative to the output
    folder. Samples are counted in images.
    Raises DatasetError with the problems when the check fails; the result file then holds ``check_pass``
    false and the findings.
    """
    settings = cfg.CheckDataset
    bands_of = partial(find_bands, cfg)
    output_dir = Path(cfg.Global.output)
    try:
        prepared = prepare(
            Path(cfg.Global.dataset_dir),
            output_dir,
            ConvertSettings(**settings.convert.model_dump()),
            SplitSettings(**settings.split.model_dump(), bands_of=bands_of),
        )
        dataset_dir, repair, found = prepared.dataset_dir, None, list(prepared.findings)
        if settings.fix.enable:
            repair = repair_dataset(
                dataset_dir,
                Path(settings.fix.dst_dir) if settings.fix.dst_dir else None,
                bands=bands_of(dataset_paths(dataset_dir).root),
            )
            log_repair(repair)
            dataset_dir = repair.root
            found += repair.findings
            if repair.removed_much and not settings.fix.allow_loss:
                found.append(_removed_much(repair))
        return check_and_draw(
            dataset_dir,
            output_dir,
            settings.decode,
            bands=bands_of(dataset_paths(dataset_dir).root),
            prepared=prepared,
            repair=repair,
            findings=found,
        )
    except NothingConverted as error:
        _finish(
            _report(empty_report(error.source, error.findings), output_dir, None), output_dir, error.source
        )
        raise
    except (UnclearDataset, ForeignDataset) as error:
        place = Path(cfg.Global.dataset_dir)
        message, hint = str(error).removesuffix("."), "Correct this, and check again."
        if isinstance(error, ForeignDataset):
            message, hint = error.found, _CONVERT
        found = [finding("json_missing", place.name, message.removeprefix(f"{place}: "), hint=hint)]
        write_result(output_dir, "check_dataset", _report(empty_report(place, found), output_dir, None))
        raise
    except DatasetError:
        if not result_path(output_dir, "check_dataset").is_file():
            write_result(output_dir, "check_dataset", {"check_pass": False})
        raise


def check_and_draw(
    dataset_dir: Path,
    output_dir: Path,
    decode: Decode = "thumbnail",
    *,
    bands: Bands | None = None,
    prepared: Prepared | None = None,
    repair: Repair | None = None,
    findings: Sequence[Finding] = (),
) -> dict[str, Any]:
    """Check, report and draw samples: the part of `run` after conversion, split and repair.

    bands: how images are read. findings: of a conversion and of a repair. They are reported like those of the
    check.
    """
    cache = CheckCache(output_dir)
    fingerprint = None if findings or repair else fingerprint_of(dataset_dir, decode, bands)
    result = cache.earlier_result(fingerprint)
    if result is None:
        report = _check(dataset_dir, decode, bands, cache.images, findings)
        result = _report(report, output_dir, bands)
        if repair is not None:
            result["fix"] = _repair_entry(repair)
        names = {category.name: None for split in report.splits.values() for category in split.categories}
        if notice := unwritable_notice(list(names)):
            _LOGGER.warning(notice)
        elif fingerprint is not None:  # else it is drawn again, when there may be a font
            cache.keep(fingerprint, result)
    else:
        _LOGGER.info("The data set has not changed since the last check. Its result is shown again.")
    if prepared is not None and prepared.entry is not None:
        result["convert"] = dict(prepared.entry)
    return _finish(result, output_dir, dataset_dir)


def _finish(result: dict[str, Any], output_dir: Path, dataset_dir: Path) -> dict[str, Any]:
    """Log the findings. Raises DatasetError, and writes the result file, when there are errors."""
    log_findings(result)
    if not result["check_pass"]:
        write_result(output_dir, "check_dataset", result)
        errors = [str(Finding(**item)) for item in result["findings"] if item["severity"] == "error"]
        count = sum(n for code, n in result["finding_counts"].items() if KINDS[code].severity == "error")
        raise DatasetError(summarize_problems(f"Check dataset failed, {dataset_dir}", errors, count=count))
    _LOGGER.info("Check dataset passed !")
    return result


def _check(
    dataset_dir: Path, decode: Decode, bands: Bands | None, cache_file: Path, earlier: Sequence[Finding]
) -> CheckReport:
    with progress_bar("images", total=None) as advance:
        report = check(
            dataset_dir,
            decode,
            bands=bands,
            cache_file=cache_file,
            progress=lambda done, total: advance(steps=done, total=total),
        )
    return report.with_findings(earlier)


def _report(report: CheckReport, output_dir: Path, bands: Bands | None) -> dict[str, Any]:
    """Write the report and, when the data set passes, the sample images. Returns the full result."""
    folder = output_dir / "check_dataset"
    folder.mkdir(parents=True, exist_ok=True)
    passed = not report.number_of("error")
    samples: dict[str, list[str]] = {"train": [], "val": []}
    histogram = None
    if passed:
        for name in samples:
            drawn = draw_samples(report.splits[name], report.paths.image_dir, folder / "demo_img", bands)
            samples[name] = [path.relative_to(output_dir).as_posix() for path in drawn]
        path = save_histogram(class_table(report.shapes), folder / "histogram.png")
        histogram = path.relative_to(output_dir).as_posix()
    with claimed(folder, ("report.html",)):
        write_report(
            folder / "report.html",
            title=str(report.paths.root),
            image_dir=report.paths.image_dir,
            shapes=report.shapes,
            findings=report.findings,
            counts=report.counts,
            passed=passed,
            bands=bands,
        )
    _LOGGER.info(f"Report: {folder / 'report.html'}")
    return check_result(report, samples, histogram, page="check_dataset/report.html")


def _removed_much(repair: Repair) -> Finding:
    return finding("repair_removed_much", repair.log_file.name, repair.losses_text)


def _repair_entry(repair: Repair) -> dict[str, Any]:
    return {
        "path": str(repair.root),
        "log": str(repair.log_file),
        "repaired": dict(repair.counts),
        "removed_objects": repair.objects.count,
        "removed_images": repair.images.count,
        "removed_repetitions": {"objects": repair.objects.repeated, "images": repair.images.repeated},
        "removed_share": {
            "objects": round(repair.objects.share, 6),
            "images": round(repair.images.share, 6),
        },
        "removed_by_code": {
            "objects": dict(repair.objects.by_code),
            "images": dict(repair.images.by_code),
        },
    }
