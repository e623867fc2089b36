"""Small evaluations with images on disk, for tests of their pages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_instances import rectangle
from PIL import Image

from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.reports.evaluation_records import (
    Calibration,
    ClassRow,
    ComparedImage,
    ComparedRow,
    ComparisonPage,
    Confusion,
    CountRow,
    Difference,
    DrawnImage,
    DrawnMask,
    ErrorCost,
    EvaluationPage,
    Fact,
    Interval,
    Line,
    ModelColumn,
    ReliabilityBin,
    ScoreRow,
    SliceRow,
    Suspicion,
    Tile,
)

SIZE_HW = (60, 80)
AROUND = Interval(0.3, 0.5)


def save_image(folder: Path, name: str, size_hw: tuple[int, int] = SIZE_HW) -> str:
    """A noisy image file."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name, "PNG")
    return name


def mask(name: str, box: tuple[int, int, int, int], state: str = "right", score: float | None = None):
    """A rectangle."""
    return DrawnMask(mask_to_rle(rectangle(box, SIZE_HW)), name, state, score, "IoU 0.50")  # type: ignore[arg-type]


def full_page(
    image: str, names: Sequence[str] = ("bolt", "washer", "nut"), text: str = "text"
) -> EvaluationPage:
    """A page with every part. image: file name. text: what all other texts contain."""
    first, second = names[0], names[1]
    truth = (mask(first, (5, 5, 30, 30)), mask(second, (40, 20, 70, 50), "wrong"))
    found = (mask(first, (6, 6, 30, 30), "right", 0.9), mask(second, (5, 40, 20, 55), "wrong", 0.6))
    crowd = mask(first, (60, 2, 78, 12), "ignored")
    drawn = DrawnImage(image, 80, 60, (*truth, crowd), found, 0.5)
    counts = np.full((len(names) + 1, len(names) + 1), 3)
    ramp = np.linspace(0, 1, 1000)
    return EvaluationPage(
        title=f"title{text}",
        verdict=(f"headline{text}", f"sentence{text}"),
        facts=(Fact(f"fact{text}", f"value{text}"),),
        tiles=(Tile(f"tile{text}", 0.4321, AROUND), Tile("Box AP", None)),
        errors=(
            ErrorCost("Cheap", 0.01, 2, "It costs little."),
            ErrorCost(f"error{text}", 0.2, 7, f"meaning{text}"),
        ),
        scores=(ScoreRow("AP", f"about{text}", 0.4, 0.5, AROUND), ScoreRow("AP small", "", None)),
        classes=tuple(
            ClassRow(name, 10 - i, 3 * i, 0.1 * i if i else None, AROUND, 0.5) for i, name in enumerate(names)
        ),
        precision_recall=(Line("all", ramp, 1 - ramp), Line(first, ramp, 1 - ramp**2)),
        over_score=(Line(f"curve{text}", ramp, ramp), Line("recall", ramp, np.full(1000, np.nan))),
        best_threshold=0.4,
        confusion=Confusion(tuple(names), counts, 0.4),
        calibration=Calibration(
            0.1, (ReliabilityBin(0, 0.5, 0, None, None), ReliabilityBin(0.5, 1, 9, 0.8, 0.6))
        ),
        counts=(CountRow(first, 10, 12, 0.25, 0.5, -0.001, 0.2),),
        slices=(
            SliceRow(f"slice{text}", f"dark{text}", 5, 20, 0.2, Interval(0.1, 0.3)),
            SliceRow(f"slice{text}", "bright", 9, 11, None),
        ),
        worst=(drawn,) * 4,
        best=(drawn,),
        image_threshold=0.4,
        suspicions=(
            Suspicion(f"kind{text}", 0.93, image, 80, 60, f"reason{text}", truth[0], found[1]),
            Suspicion("missed object", 0.8, image, 80, 60, "No label is here.", None, found[0]),
        ),
        num_suspicions=12,
        notes=(f"note{text}",),
    )


def full_comparison(image: str, models: Sequence[str] = ("A", "B"), text: str = "text") -> ComparisonPage:
    """A comparison with every part."""
    page = full_page(image, text=text)
    drawn = page.worst[0]
    others = len(models) - 1
    better = (Difference(0.1, Interval(0.05, 0.15)),) * others
    unsure = (Difference(-0.02, Interval(-0.06, 0.03)),) * others
    unknown = (Difference(None),) * others
    values = (0.4,) * len(models)
    compared = ComparedImage(
        image, 80, 60, drawn.truth, (drawn.found,) * len(models), (0.5, None, 0.1)[: len(models)]
    )
    return ComparisonPage(
        title=f"title{text}",
        models=tuple(
            ModelColumn(name, (Fact(f"fact{text}", f"value{text}"),), 0.4, AROUND) for name in models
        ),
        verdict=(f"headline{text}",),
        scores=(ComparedRow("Mask AP", values, better),),
        classes=(
            ComparedRow(f"class{text}", values, better, 7),
            ComparedRow("nut", values, unsure, 70),
            ComparedRow("none", (None,) * len(models), unknown, 0),
        ),
        slices=(ComparedRow(f"dark{text}", values, unsure, 9, f"slice{text}"),),
        better=(compared,) * 3,
        worse=(compared,),
        notes=(f"note{text}",),
    )
