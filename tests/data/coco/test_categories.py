"""Files that list different categories are refused."""

from pathlib import Path

import pytest

from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Category, CocoFile


def coco_with(name: str, *categories: Category) -> CocoFile:
    return CocoFile(Path(name), (), (), categories)


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        ((Category(1, "bolt"),), "val.json lacks category 2 (nut)"),
        ((Category(1, "bolt"), Category(2, "nut"), Category(3, "pin")), "train.json lacks category 3 (pin)"),
        (
            (Category(1, "nut"), Category(2, "bolt")),
            "category 1 is 'bolt' in train.json and 'nut' in val.json",
        ),
        (
            (Category(2, "nut"), Category(1, "bolt")),
            "the order of the ids is [1, 2] in train.json and [2, 1]",
        ),
    ],
    ids=["missing", "extra", "renamed", "reordered"],
)
def test_categories_that_disagree_are_refused(val: tuple[Category, ...], expected: str) -> None:
    train = coco_with("train.json", Category(1, "bolt"), Category(2, "nut"))
    same_categories(train, coco_with("val.json", Category(1, "bolt"), Category(2, "nut", "metal")))
    with pytest.raises(DatasetError) as caught:
        same_categories(train, coco_with("val.json", *val))
    assert expected in str(caught.value)
