"""The report of a data set as one HTML file: findings, sample images, statistics.

The file works offline: images are embedded, there are no scripts. Its size is limited for any data set: see
the limits in `dataset_images` and `dataset_findings`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.data.checking.statistics import Shapes
from paddlex_seg.data.findings import Finding
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.reports.dataset_counts import (
    Split,
    count_classes,
    count_images,
    count_objects,
    draw_positions,
    frequent_sizes,
    split_rows,
)
from paddlex_seg.reports.dataset_findings import SEVERITIES, group_by_code, make_blocks, with_images
from paddlex_seg.reports.dataset_images import (
    View,
    choose_samples,
    finding_views,
    render,
    sample_views,
)
from paddlex_seg.reports.images import Embedded
from paddlex_seg.reports.page import render_page
from paddlex_seg.reports.text import describe_objects, shorten, size
from paddlex_seg.structures import Bands


@dataclass(frozen=True)
class _Sample:
    """A sample image of the data set."""

    image: Embedded | None  # None if the image file cannot be read
    content: str  # number of objects per class
    drawn: int | None  # how many objects are drawn; None for all
    file_name: str
    size: str


def write_report(
    path: Path,
    *,
    title: str,
    image_dir: Path,
    shapes: Shapes,
    findings: Sequence[Finding],
    counts: Mapping[str, int],
    passed: bool,
    bands: Bands | None = None,
) -> None:
    """Write the report to ``path`` atomically. It is smaller than 15 MB and works offline.

    shapes: the valid records of the splits that could be read. findings: may contain only some of each code.
    counts: the full number of findings of each code. bands: how images are read. Samples are random, but the
    same in every run. An image file that cannot be read gets a placeholder.
    """
    groups = group_by_code(findings, counts)
    splits = {name: Split.of(name, split_shapes) for name, split_shapes in shapes.items()}
    samples = choose_samples(list(splits.values()))
    views = sample_views(samples)
    images = render(views | finding_views(with_images(groups), splits), image_dir, bands)
    shown: dict[str, list[_Sample]] = {}
    for i, (split, place) in enumerate(samples):
        if ("sample", i) in images:
            sample = _sample(split, place, views["sample", i], images["sample", i])
            shown.setdefault(split.name, []).append(sample)
    measured = count_images(shapes)
    page = render_page(
        "dataset.html.jinja",
        styles=["page.css"],
        title=title,
        passed=passed,
        totals={
            severity: sum(group.total for group in groups if group.severity == severity)
            for severity in SEVERITIES
        },
        splits=split_rows(splits),
        blocks=make_blocks(groups, splits, images),
        samples=shown,
        classes=count_classes(shapes),
        objects=count_objects(shapes),
        images=measured,
        split_names=list(shapes),
        sizes=frequent_sizes(shapes) if measured.rows else [],
        positions=draw_positions(shapes),
    )
    write_bytes(path, page)


def _sample(split: Split, place: int, view: View, image: Embedded | None) -> _Sample:
    classes = split.classes[(split.images == place) & (split.classes >= 0)]
    names = [category.name for category in view.categories]
    is_partly_drawn = len(classes) > len(view.annotations)
    return _Sample(
        image,
        content=describe_objects(Counter(names[i] for i in classes.tolist())),
        drawn=len(view.annotations) if is_partly_drawn else None,
        file_name=shorten(view.record.file_name, 80),
        size=size(view.record.width, view.record.height),
    )
