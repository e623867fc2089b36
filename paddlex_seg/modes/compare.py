"""Mode compare: models, backends or thresholds on the same images. Do they differ by more than chance?"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from paddlex_seg.config.read import find_bands
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.evaluation.compare import Comparison, Model, compare
from paddlex_seg.evaluation.slices import find_slices
from paddlex_seg.files.addresses import scheme_of
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.run_folder import BEST
from paddlex_seg.files.written import claimed
from paddlex_seg.inference.backends.exported_files import find_description
from paddlex_seg.metrics.overlaps import truth_of as objects_of
from paddlex_seg.modes.detections import (
    Detected,
    TruthFile,
    detections_of_file,
    detections_of_run,
    prepare_models,
    truth_of,
)
from paddlex_seg.modes.explain import image_looks
from paddlex_seg.reports.comparison import write_comparison_page
from paddlex_seg.reports.evaluation_records import ComparedRow, ComparisonPage, Fact, ModelColumn
from paddlex_seg.reports.evaluation_records import Difference as PageDifference
from paddlex_seg.reports.evaluation_records import Interval as PageInterval
from paddlex_seg.structures import BackendChoice

LOGGER = logging.getLogger(__name__)
PAGE = "comparison.html"


@dataclass(frozen=True)
class Source:
    """One of the things that are compared."""

    place: str  # as the user wrote it
    name: str
    threshold: float | None = None
    backend: BackendChoice | None = None


@dataclass(frozen=True)
class Place:
    """What the place of a source is."""

    kind: Literal["file", "run", "weights", "export"]
    path: str


def run(cfg: Config) -> dict[str, Any]:
    """Compare ``Compare.sources`` with the first of them.

    Writes ``comparison.html`` into ``Global.output``. Files of detections need neither Paddle nor images.
    """
    sources = read_sources(cfg)
    truth = truth_of(cfg)
    places = [find_place(source, truth) for source in sources]
    found = _detect(cfg, truth, sources, places)
    bands = None if truth.image_dir is None else find_bands(cfg, truth.image_dir.parent)
    looks = image_looks(cfg, truth, bands)
    slices, notes = find_slices(truth.coco, objects_of(truth.coco), looks)
    models = [_model(source, one) for source, one in zip(sources, found, strict=True)]
    notes = list(dict.fromkeys([*(note for one in found for note in one.notes), *notes]))
    comparison = compare(truth.coco, models, slices, num_resamples=cfg.Evaluate.bootstraps, notes=notes)
    for line in (*comparison.verdict(), *comparison.table().splitlines()):
        LOGGER.info("%s", line)
    if cfg.Evaluate.page:
        output = Path(cfg.Global.output)
        page = _page(comparison, truth, places)
        with claimed(output, (PAGE,)):
            write_comparison_page(output / PAGE, page, image_dir=truth.image_dir, bands=bands)
        LOGGER.info("Page: %s", output / PAGE)
    described = [
        {"name": source.name, "threshold": source.threshold, **one.description}
        for source, one in zip(sources, found, strict=True)
    ]
    return {
        "models": described,
        "verdict": list(comparison.verdict()),
        **comparison.to_json(),
        "data": truth.description,
    }


# ---- what is compared


def read_sources(cfg: Config) -> list[Source]:
    """The sources with their settings. Raises ConfigError when these contradict each other."""
    settings = cfg.Compare
    places = settings.sources
    lists = {
        "sources": places,
        "thresholds": settings.thresholds or (),
        "backends": settings.backends or (),
    }
    number = max(map(len, lists.values()))
    if not places or number < 2:
        raise ConfigError(
            f"Compare.sources names {len(places) or 'none'}; expected two or more, such as "
            "[run1, run2], or one with two thresholds (Compare.thresholds=[0.3, 0.5]) or two backends "
            "(Compare.backends=[paddle, openvino])."
        )
    for key, values in lists.items():
        if len(values) not in (0, 1, number):
            raise ConfigError(
                f"Compare.{key} has {len(values)} values, but {number} are compared. Give one for each of "
                "them, or one for all."
            )
    if settings.names and len(settings.names) != number:
        raise ConfigError(
            f"Compare.names has {len(settings.names)} names, but {number} are compared. Give one for each."
        )
    if len(set(settings.names)) < len(settings.names):
        raise ConfigError(f"Compare.names repeats a name: {', '.join(settings.names)}.")
    sources = [
        Source(place, place, threshold, backend)
        for place, threshold, backend in zip(
            _spread(places, number),
            _spread(settings.thresholds or (None,), number),
            _spread(settings.backends or (None,), number),
            strict=True,
        )
    ]
    if len(set(sources)) < number:
        raise ConfigError(
            f"Compare.sources names the same thing twice: {', '.join(places)}. It cannot differ from itself."
        )
    names = settings.names or _names(sources)
    return [replace(source, name=name) for source, name in zip(sources, names, strict=True)]


def _spread(values: Sequence[Any], number: int) -> list[Any]:
    return list(values) if len(values) == number else [values[0]] * number


def _names(sources: Sequence[Source]) -> list[str]:
    """Short names that differ: as much of the end of each path as needed, then backend and threshold."""
    parts = [Path(source.place).parts for source in sources]
    different = len(set(parts))
    length = next(
        (n for n in range(1, max(map(len, parts))) if len({part[-n:] for part in parts}) == different),
        max(map(len, parts)),
    )
    names = ["/".join(part[-length:]) for part in parts]
    for text, values in (
        (" by {}", [source.backend for source in sources]),
        (" above {:g}", [source.threshold for source in sources]),
    ):
        if len(set(values)) > 1:
            names = [
                name + text.format(value) if value is not None else name
                for name, value in zip(names, values, strict=True)
            ]
    repeated = Counter(names)
    return [f"{name} ({place})" if repeated[name] > 1 else name for place, name in enumerate(names, start=1)]


def find_place(source: Source, truth: TruthFile) -> Place:
    """What a source is: a file of detections, weights, or an exported model.

    In an output folder, the detections in ``segm.json`` are taken if they are of these annotations, else its
    best model. Raises ConfigError when there is none of these.
    """
    place, path = source.place, Path(source.place)
    if source.backend is not None:
        for folder in (path, path / "inference", path / BEST / "inference"):
            if _is_exported(folder):
                return Place("export", str(folder))
        raise ConfigError(
            f"Compare.sources: {place} is no folder of an exported model, which Compare.backends needs."
        )
    if scheme_of(place) is not None or (path.is_file() and path.suffix.lower() != ".json"):
        return Place("weights", place)
    if path.is_file():
        return Place("file", place)
    if _is_exported(path):
        return Place("export", place)
    written = path / "segm.json"
    if written.is_file() and _is_of(written.with_name("evaluate_result.json"), truth):
        return Place("run", place)
    for weights in (path / BEST / f"{BEST}.pdparams", *sorted(path.glob("*.pdparams"))):
        if weights.is_file():
            return Place("weights", str(weights))
    if written.is_file():
        return Place("run", place)
    state = "has none of these" if path.is_dir() else "does not exist"
    raise ConfigError(
        f"Compare.sources: {place} {state}: expected a file of detections in COCO's result format, an output "
        "folder of evaluate (with segm.json) or train (with best_model), weights, or a folder of an exported "
        "model."
    )


def _is_exported(folder: Path) -> bool:
    try:
        find_description(folder)
    except BackendError:
        return False
    return True


def _is_of(result: Path, truth: TruthFile) -> bool:
    """Whether a result file of mode evaluate is about these annotations."""
    try:
        data = json.loads(result.read_text(encoding="utf-8")).get("data", {})
        known = {part["sha256"] for part in data.values() if isinstance(part, dict)}
    except (OSError, ValueError, AttributeError, KeyError):
        return False
    return sha256_of(truth.coco.path) in known


# ---- what was found


def _detect(
    cfg: Config, truth: TruthFile, sources: Sequence[Source], places: Sequence[Place]
) -> list[Detected]:
    """The detections of each source. One place is read or run once."""
    ways = [(place, source.backend) for place, source in zip(places, sources, strict=True)]
    if any(place.kind in ("weights", "export") for place in places):
        prepare_models()
    found = {way: _detect_one(cfg, truth, *way) for way in dict.fromkeys(ways)}
    return [found[way] for way in ways]


def _detect_one(cfg: Config, truth: TruthFile, place: Place, backend: BackendChoice | None) -> Detected:
    if place.kind == "file":
        return detections_of_file(Path(place.path), truth)
    if place.kind == "run":
        return detections_of_run(Path(place.path), truth)
    return _run_model(cfg, truth, place, backend)


def _run_model(cfg: Config, truth: TruthFile, place: Place, backend: BackendChoice | None) -> Detected:
    from paddlex_seg.checkpoints.identity import find_weights
    from paddlex_seg.checkpoints.info import read_info
    from paddlex_seg.modes.model_detections import detections_of_export, detections_of_weights
    from paddlex_seg.runtime.ranks import join_ranks

    key = "Compare.sources"
    LOGGER.info("%s: %s", place.kind, place.path)
    with join_ranks(cfg.Global.device) as ranks:
        if place.kind == "export":
            return detections_of_export(cfg, ranks, truth, place.path, backend or "paddle", key=key)
        path = find_weights(place.path, key=key, output=Path(cfg.Global.output))
        info = read_info(path)
        if info is not None:
            own = cfg.Global.model_copy(update={"model": info.model_name})
            cfg = cfg.model_copy(update={"Global": own})
        return detections_of_weights(cfg, ranks, truth, place.path, key=key)


def _model(source: Source, found: Detected) -> Model:
    results = found.results
    if source.threshold is not None:
        results = {id: one.above(source.threshold) for id, one in results.items()}
    return Model(
        source.name,
        results,
        [category.id for category in found.categories],
        has_masks=found.has_masks,
        score_threshold=source.threshold,
    )


# ---- the page


def _page(comparison: Comparison, truth: TruthFile, places: Sequence[Place]) -> ComparisonPage:
    columns = [
        ModelColumn(
            name,
            facts=(Fact(place.kind, place.path), Fact("F1 of images above", f"{threshold:.2f}")),
            ap=comparison.figures[0].values[number],
            interval=None if within is None else PageInterval(within.low, within.high),
        )
        for number, (name, place, within, threshold) in enumerate(
            zip(comparison.names, places, comparison.intervals, comparison.score_thresholds, strict=True)
        )
    ]
    rows = {
        key: tuple(
            ComparedRow(
                row.name,
                row.values,
                tuple(
                    PageDifference(
                        one.value, one.interval and PageInterval(one.interval.low, one.interval.high)
                    )
                    for one in row.differences
                ),
                row.objects,
                row.group,
            )
            for row in getattr(comparison, key)
        )
        for key in ("figures", "classes", "slices")
    }
    facts = (
        Fact("Annotations", str(truth.coco.path)),
        Fact("Images", str(len(truth.coco.images))),
        Fact("Objects", str(len(truth.coco.annotations))),
    )
    return ComparisonPage(
        title=" and ".join(comparison.names),
        models=tuple(columns),
        verdict=comparison.verdict(),
        facts=facts,
        scores=rows["figures"],
        classes=rows["classes"],
        slices=rows["slices"],
        better=comparison.drawn_better,
        worse=comparison.drawn_worse,
        notes=comparison.notes,
    )
