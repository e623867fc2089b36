import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_seg.data.coco.categories import same_categories
from paddlex_seg.data.preparation.balance import ClassBalance, split_balance
from paddlex_seg.data.preparation.groups import groups_by_folder, groups_by_name
from paddlex_seg.data.preparation.merge import merge_coco
from paddlex_seg.data.preparation.split import fold_coco, split_coco, split_sizes
from paddlex_seg.errors import ConfigError, DatasetError
from paddlex_seg.structures import Annotation, Category, CocoFile, ImageRecord

TRIANGLE = [[0.0, 0.0, 4.0, 0.0, 0.0, 4.0]]
EIGHTY_TWENTY = {"train": 80, "val": 20}


def labelled(classes_of_images: Sequence[Sequence[int]], num_classes: int = 3) -> CocoFile:
    """Images with one object per number, its class. Image ids start at 100, annotation ids at 1."""
    ids = count(1)
    return CocoFile(
        path=Path("set/annotations/instance_all.json"),
        images=tuple(
            ImageRecord(id=100 + i, file_name=f"{i}.jpg", width=8, height=8)
            for i in range(len(classes_of_images))
        ),
        annotations=tuple(
            Annotation(id=next(ids), image_id=100 + i, category_id=index + 1, segmentation=TRIANGLE)
            for i, classes in enumerate(classes_of_images)
            for index in classes
        ),
        categories=tuple(Category(id=index + 1, name=f"class {index}") for index in range(num_classes)),
        extra={"info": {"year": 2024}},
    )


def random_labels(num_images: int, num_classes: int, seed: int, mean_objects: float = 2.5) -> list[list[int]]:
    """Classes with lower numbers are more frequent. Some images have no objects."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, num_classes + 1)
    return [
        rng.choice(num_classes, size=rng.poisson(mean_objects), p=shares / shares.sum()).tolist()
        for _ in range(num_images)
    ]


def first_images(coco: CocoFile, num_images: int) -> CocoFile:
    images = coco.images[:num_images]
    ids = {image.id for image in images}
    return replace(
        coco, images=images, annotations=tuple(item for item in coco.annotations if item.image_id in ids)
    )


def file_names(coco: CocoFile) -> list[str]:
    return [image.file_name for image in coco.images]


def images_per_class(coco: CocoFile) -> list[int]:
    return [row.images["all"] for row in split_balance({"all": coco})]


# ---- sizes


@pytest.mark.parametrize(
    ("total", "percents", "expected"),
    [
        pytest.param(10, [80, 20], [8, 2], id="exact"),
        pytest.param(3, [50, 50], [2, 1], id="tie goes to the earlier"),
        pytest.param(7, [20, 80], [1, 6], id="largest remainder"),
        pytest.param(2, [99, 1], [1, 1], id="none is empty"),
        pytest.param(3, [98, 1, 1], [1, 1, 1], id="three, none is empty"),
        pytest.param(3, [80, 20, 0], [2, 1, 0], id="nothing for 0 percent"),
        pytest.param(1, [20, 80], [0, 1], id="one image"),
        pytest.param(0, [80, 20], [0, 0], id="no image"),
    ],
)
def test_sizes_follow_the_percents(total: int, percents: list[int], expected: list[int]) -> None:
    assert split_sizes(total, percents) == expected


@pytest.mark.parametrize("percents", [[80, 20], [70, 20, 10], [95, 5], [34, 33, 33], [98, 1, 1], [0, 100]])
def test_sizes_differ_by_less_than_1_from_the_exact_share_if_no_part_is_empty(percents: list[int]) -> None:
    for total in range(600):
        sizes = split_sizes(total, percents)
        exact = [total * percent / 100 for percent in percents]
        assert sum(sizes) == total
        off = max(abs(size - share) for size, share in zip(sizes, exact, strict=True))
        few = any(0 < share < 1 for share in exact)
        assert off < 1 or few, (total, sizes)
        if total >= sum(percent > 0 for percent in percents):
            assert all(sizes[part] > 0 for part, percent in enumerate(percents) if percent)


@pytest.mark.parametrize(
    ("percents", "found"),
    [
        pytest.param({"train": 80, "val": 30}, "train 80, val 30, which sum to 110", id="sum"),
        pytest.param({"train": 120, "val": -20}, "val -20", id="negative"),
        pytest.param({"train": 80.0, "val": 20.0}, "train 80.0", id="no whole numbers"),
        pytest.param({"train": None, "val": 100}, "train None", id="missing"),
        pytest.param({}, "none", id="no parts"),
    ],
)
def test_invalid_percents_are_reported(percents: Mapping[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=rf"{found}.*\. Expected whole numbers .* sum to 100"):
        split_coco(labelled([[0]] * 5), percents, seed=0)


# ---- a split


@pytest.mark.parametrize(
    "shares",
    [(80, 20), (90, 10), (70, 20, 10), (50, 50), (99, 1), (60, 20, 20), (34, 33, 33), (1, 99)],
    ids=str,
)
def test_no_image_is_lost_or_doubled_and_sizes_are_exact(shares: tuple[int, ...]) -> None:
    whole = labelled(random_labels(num_images=500, num_classes=3, seed=1, mean_objects=0.7))
    percents = dict(zip(("train", "val", "test"), shares, strict=False))
    for num_images in range(1, 501):
        coco = first_images(whole, num_images)
        for seed in range(3):
            parts = split_coco(coco, percents, seed=seed)
            assert [len(part.images) for part in parts.values()] == split_sizes(num_images, shares)
            ids = [image.id for part in parts.values() for image in part.images]
            assert sorted(ids) == list(range(100, 100 + num_images))


def test_parts_keep_records_order_categories_and_extra() -> None:
    coco = labelled(random_labels(num_images=60, num_classes=3, seed=0))
    parts = split_coco(coco, {"train": 70, "val": 20, "test": 10}, seed=3)
    assert list(parts) == ["train", "val", "test"]
    for name, part in parts.items():
        ids = {image.id for image in part.images}
        assert part == CocoFile(
            path=Path(f"set/annotations/instance_{name}.json"),
            images=tuple(image for image in coco.images if image.id in ids),
            annotations=tuple(item for item in coco.annotations if item.image_id in ids),
            categories=coco.categories,
            extra=coco.extra,
        )
    same_categories(parts["train"], parts["val"])


def test_a_part_of_0_percent_has_no_image() -> None:
    parts = split_coco(labelled([[0]] * 5), {"train": 80, "val": 20, "test": 0}, seed=0)
    assert [len(part.images) for part in parts.values()] == [4, 1, 0]


def test_a_file_without_images_gives_empty_parts() -> None:
    parts = split_coco(labelled([]), EIGHTY_TWENTY, seed=0)
    assert [part.images for part in parts.values()] == [(), ()]


def test_seeds_give_different_splits() -> None:
    coco = labelled(random_labels(num_images=50, num_classes=3, seed=0))
    splits = {tuple(file_names(split_coco(coco, EIGHTY_TWENTY, seed=seed)["val"])) for seed in range(5)}
    assert len(splits) == 5


SPLIT_IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, "tests/data/preparation")
from test_split import labelled, random_labels, split_coco, file_names
coco = labelled(random_labels(num_images=200, num_classes=8, seed=5), num_classes=8)
for groups in (None, [i // 3 for i in range(200)]):
    parts = split_coco(coco, {"train": 70, "val": 20, "test": 10}, seed=7, groups=groups)
    print([file_names(part) for part in parts.values()])
"""


def test_every_process_gives_the_same_split() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SPLIT_IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


# ---- stratification


@pytest.mark.parametrize("percents", [EIGHTY_TWENTY, {"train": 70, "val": 30}], ids=["80-20", "70-30"])
@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_class(percents: Mapping[str, int], seed: int) -> None:
    coco = labelled(random_labels(num_images=600, num_classes=20, seed=seed), num_classes=20)
    for row in split_balance(split_coco(coco, percents, seed=seed)):
        total = sum(row.images.values())
        for name, percent in percents.items():
            share = total * percent / 100
            if share >= 1:
                assert abs(row.images[name] - share) <= max(1, 0.2 * share), row


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_two_images_is_in_train_and_val(seed: int) -> None:
    labels = [[0]] * 50
    labels[7], labels[30] = [0, 2], [1, 2]
    balance = split_balance(split_coco(labelled(labels), EIGHTY_TWENTY, seed=seed))
    assert balance[2].images == {"train": 1, "val": 1}


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_one_image_is_in_train(seed: int) -> None:
    balance = split_balance(split_coco(labelled([[0]] * 49 + [[0, 1]]), EIGHTY_TWENTY, seed=seed))
    assert balance[1].images == {"train": 1, "val": 0}


@pytest.mark.parametrize("seed", range(10))
def test_images_without_objects_are_spread_like_a_class(seed: int) -> None:
    parts = split_coco(labelled([[0]] * 80 + [[]] * 20), EIGHTY_TWENTY, seed=seed)
    assert images_per_class(parts["train"])[0] == 64
    assert len(parts["train"].images) == 80


@pytest.mark.parametrize("num_images", range(2, 9))
def test_images_without_objects_do_not_fill_a_part_that_a_class_needs(num_images: int) -> None:
    for num_labelled in range(2, num_images + 1):
        for seed in range(20):
            places = np.random.default_rng(seed).permutation(num_images)[:num_labelled]
            labels = [[0] if image in places else [] for image in range(num_images)]
            for part in split_coco(labelled(labels), {"train": 80, "val": 20}, seed).values():
                assert part.annotations, (labels, seed)


def test_balance_counts_images_and_instances_of_each_part() -> None:
    parts = {"train": labelled([[0, 0, 1], [0]], num_classes=2), "val": labelled([[1], []], num_classes=2)}
    assert split_balance(parts) == [
        ClassBalance("class 0", images={"train": 2, "val": 0}, instances={"train": 3, "val": 0}),
        ClassBalance("class 1", images={"train": 1, "val": 1}, instances={"train": 1, "val": 1}),
    ]


def test_balance_without_parts_is_empty() -> None:
    assert split_balance({}) == []
    assert split_balance({"train": labelled([[]], num_classes=0)}) == []


# ---- groups


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    groups=st.lists(st.integers(0, 12), min_size=3, max_size=60).filter(lambda groups: len(set(groups)) >= 3),
    shares=st.sampled_from([(80, 20), (70, 20, 10), (98, 1, 1)]),
    seed=st.integers(0, 1000),
)
def test_groups_are_never_divided_and_no_part_is_empty(
    groups: list[int], shares: tuple[int, ...], seed: int
) -> None:
    coco = labelled(random_labels(num_images=len(groups), num_classes=3, seed=seed))
    percents = dict(zip(("train", "val", "test"), shares, strict=False))
    parts = split_coco(coco, percents, seed=seed, groups=groups)
    ids = [image.id for part in parts.values() for image in part.images]
    assert sorted(ids) == list(range(100, 100 + len(groups)))
    assert all(part.images for part in parts.values())
    groups_of_parts = [{groups[image.id - 100] for image in part.images} for part in parts.values()]
    assert sum(map(len, groups_of_parts)) == len(set(groups))


@pytest.mark.parametrize(
    ("group_sizes", "percents", "expected"),
    [
        pytest.param([60] + [1] * 140, EIGHTY_TWENTY, [160, 40], id="one large, many of one image"),
        pytest.param([5, 4, 3, 3, 3], {"train": 50, "val": 50}, [9, 9], id="only one way"),
        pytest.param([50, 30, 20], EIGHTY_TWENTY, [80, 20], id="fits as it is"),
        pytest.param([90, 10], EIGHTY_TWENTY, [90, 10], id="as many groups as parts"),
        pytest.param([10] * 10, {"train": 70, "val": 20, "test": 10}, [70, 20, 10], id="equal groups"),
        pytest.param([25] * 4, {"train": 90, "val": 10}, [75, 25], id="none is small enough"),
    ],
)
def test_sizes_are_approximate_with_groups(
    group_sizes: list[int], percents: Mapping[str, int], expected: list[int]
) -> None:
    groups = [group for group, size in enumerate(group_sizes) for _ in range(size)]
    for seed in range(5):
        parts = split_coco(labelled([[0]] * len(groups)), percents, seed=seed, groups=groups)
        assert [len(part.images) for part in parts.values()] == expected


def test_group_numbers_do_not_change_the_split() -> None:
    coco = labelled(random_labels(num_images=60, num_classes=3, seed=0))
    groups = [i // 4 for i in range(60)]
    renamed = [1000 - group for group in groups]
    first, second = (split_coco(coco, EIGHTY_TWENTY, seed=1, groups=names) for names in (groups, renamed))
    assert first == second


def test_groups_of_one_image_equal_a_split_without_groups() -> None:
    coco = labelled(random_labels(num_images=60, num_classes=3, seed=0))
    assert split_coco(coco, EIGHTY_TWENTY, seed=1, groups=range(60)) == split_coco(
        coco, EIGHTY_TWENTY, seed=1
    )


def test_classes_are_spread_with_groups() -> None:
    coco = labelled(random_labels(num_images=600, num_classes=6, seed=2), num_classes=6)
    groups = [i // 5 for i in range(600)]
    parts = split_coco(coco, EIGHTY_TWENTY, seed=0, groups=groups)
    assert len(parts["val"].images) == 120
    for row in split_balance(parts):
        share = sum(row.images.values()) / 5
        assert abs(row.images["val"] - share) <= 0.2 * share, row


def test_fewer_groups_than_parts_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"10 images form 1 groups.* 2 parts \(train, val\)"):
        split_coco(labelled([[0]] * 10), EIGHTY_TWENTY, seed=0, groups=[4] * 10)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param(r"site(\d+)", [0, 0, 1, 2, 3], id="one capturing group"),
        pytest.param(r"site\d+_\d", [0, 0, 1, 2, 3], id="whole match"),
        pytest.param(r"site(\d+)_(\d)_(\w)", [0, 1, 2, 3, 4], id="several capturing groups"),
        pytest.param(r"\.jpg", [0, 0, 0, 0, 0], id="the same in all"),
        pytest.param(r"\d*", [0, 1, 2, 3, 4], id="empty matches stand alone"),
        pytest.param(r"(x)?\.jpg", [0, 1, 2, 3, 4], id="groups that take no part stand alone"),
    ],
)
def test_names_are_grouped_by_the_match_of_the_pattern(pattern: str, expected: list[int]) -> None:
    names = ["a/site1_0_a.jpg", "b/site1_0_b.jpg", "site2_0_a.jpg", "other.jpg", "more.jpg"]
    assert groups_by_name(names, pattern) == expected


def test_an_invalid_pattern_is_named() -> None:
    with pytest.raises(ConfigError, match=r"group_by: 'site\(' is not a regular expression \(missing \)"):
        groups_by_name(["a.jpg"], "site(")


def test_images_of_a_folder_are_a_group_and_images_without_folder_are_not_grouped() -> None:
    names = ["a/1.jpg", "1.jpg", "a/b/1.jpg", "a/2.jpg", "2.jpg", "./3.jpg", "a\\3.jpg", "a/./b/2.jpg"]
    assert groups_by_folder(names) == [0, 1, 2, 0, 3, 4, 0, 2]


# ---- folds


@pytest.mark.parametrize(("num_images", "folds"), [(23, 5), (10, 10), (2, 2), (100, 3)])
def test_each_image_is_in_the_val_of_one_fold(num_images: int, folds: int) -> None:
    coco = labelled(random_labels(num_images=num_images, num_classes=3, seed=0))
    splits = fold_coco(coco, folds, seed=0)
    assert len(splits) == folds
    assert sorted(name for split in splits for name in file_names(split["val"])) == sorted(file_names(coco))
    for number, split in enumerate(splits, start=1):
        assert split["val"].path == Path(f"set/annotations/instance_val_fold{number}.json")
        assert num_images // folds <= len(split["val"].images) <= -(-num_images // folds)
        assert sorted(file_names(split["train"]) + file_names(split["val"])) == sorted(file_names(coco))


def test_folds_have_equal_shares_of_classes() -> None:
    labels = [[0]] * 50 + [[1]] * 25 + [[0, 2]] * 5 + [[]] * 20
    for split in fold_coco(labelled(labels), 5, seed=2):
        assert images_per_class(split["val"]) == [11, 5, 1]


def test_folds_do_not_divide_groups() -> None:
    groups = [i // 4 for i in range(40)]
    for split in fold_coco(labelled([[0]] * 40), 5, seed=0, groups=groups):
        sizes = Counter(groups[image.id - 100] for image in split["val"].images)
        assert sorted(sizes.values()) == [4, 4]


@pytest.mark.parametrize(
    ("folds", "groups", "found"),
    [
        pytest.param(1, None, "1 folds of 6 images", id="one"),
        pytest.param(7, None, "7 folds of 6 images", id="more than images"),
        pytest.param(4, [0, 0, 1, 1, 2, 2], "4 folds of 3 groups", id="more than groups"),
    ],
)
def test_impossible_numbers_of_folds_are_an_error(folds: int, groups: list[int] | None, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        fold_coco(labelled([[0]] * 6), folds, seed=0, groups=groups)


# ---- merging


def file_of(
    name: str,
    images: Mapping[int, str],
    annotations: Sequence[tuple[int, int, int]] = (),
    categories: Mapping[int, str] | None = None,
    **extra: Any,
) -> CocoFile:
    """images: id to file name; annotations: id, image id, category id; categories: id to name."""
    return CocoFile(
        path=Path("annotations") / name,
        images=tuple(ImageRecord(id=id, file_name=text, width=8, height=8) for id, text in images.items()),
        annotations=tuple(
            Annotation(id=id, image_id=image_id, category_id=category_id, segmentation=TRIANGLE)
            for id, image_id, category_id in annotations
        ),
        categories=tuple(Category(id=id, name=text) for id, text in (categories or {1: "nut"}).items()),
        extra=extra,
    )


def ids_of_annotations(coco: CocoFile) -> list[tuple[int, int, int]]:
    return [(item.id, item.image_id, item.category_id) for item in coco.annotations]


def test_merging_one_file_changes_nothing() -> None:
    coco = file_of(
        "instance_train.json", {3: "a.jpg", 1: "b.jpg"}, [(9, 1, 1), (2, 3, 1)], info={"year": 2024}
    )
    assert merge_coco([coco]) == coco


def test_merging_joins_categories_by_name() -> None:
    train = file_of("instance_train.json", {1: "a.jpg"}, [(1, 1, 5)], {7: "nut", 5: "bolt"})
    val = file_of(
        "instance_val.json",
        {2: "b.jpg"},
        [(2, 2, 5), (3, 2, 7), (4, 2, 1), (5, 2, 8)],
        {5: "nut", 7: "pin", 1: "bolt", 8: "cap"},
    )
    merged = merge_coco([train, val])
    assert {item.id: item.name for item in merged.categories} == {7: "nut", 5: "bolt", 9: "pin", 8: "cap"}
    assert ids_of_annotations(merged) == [(1, 1, 5), (2, 2, 7), (3, 2, 9), (4, 2, 5), (5, 2, 8)]


def test_merging_renumbers_only_ids_that_are_taken() -> None:
    train = file_of("instance_train.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 1, 1), (2, 2, 1)])
    val = file_of("instance_val.json", {2: "c.jpg", 8: "d.jpg"}, [(2, 2, 1), (7, 8, 1)])
    merged = merge_coco([train, val])
    assert {image.id: image.file_name for image in merged.images} == {
        1: "a.jpg",
        2: "b.jpg",
        9: "c.jpg",
        8: "d.jpg",
    }
    assert ids_of_annotations(merged) == [(1, 1, 1), (2, 2, 1), (8, 9, 1), (7, 8, 1)]


def test_merging_lists_an_image_of_several_files_once() -> None:
    train = file_of("instance_train.json", {1: "a.jpg"}, [(1, 1, 1), (2, 1, 1)], {1: "nut", 2: "bolt"})
    val = file_of("instance_val.json", {5: "./a.jpg", 6: "b.jpg"}, [(3, 5, 1), (4, 5, 2), (5, 6, 2)])
    val = replace(val, categories=train.categories)
    merged = merge_coco([train, val])
    assert file_names(merged) == ["a.jpg", "b.jpg"]
    # 3 repeats 1 in another file and is dropped. 2 repeats 1 in the same file and stays.
    assert ids_of_annotations(merged) == [(1, 1, 1), (2, 1, 1), (4, 1, 2), (5, 6, 2)]


def test_merging_compares_run_lengths_too() -> None:
    def with_counts(counts: Any) -> CocoFile:
        coco = file_of("instance_train.json", {1: "a.jpg"}, [(1, 1, 1)])
        rle = {"size": [8, 8], "counts": counts}
        return replace(coco, annotations=(replace(coco.annotations[0], segmentation=rle),))

    assert len(merge_coco([with_counts([4, 60]), with_counts([4, 60])]).annotations) == 1
    assert len(merge_coco([with_counts([4, 60]), with_counts([5, 59])]).annotations) == 2
    assert len(merge_coco([with_counts("4l1"), with_counts(b"4l1")]).annotations) == 1


def test_merging_adds_extra_keys_that_the_first_file_lacks() -> None:
    train = file_of("instance_train.json", {1: "a.jpg"}, info={"year": 2024})
    val = file_of("instance_val.json", {2: "b.jpg"}, info={"year": 2020}, licenses=[{"id": 1}])
    assert merge_coco([train, val]).extra == {"info": {"year": 2024}, "licenses": [{"id": 1}]}


def test_merging_rejects_an_image_listed_with_two_sizes() -> None:
    train = file_of("instance_train.json", {1: "a.jpg"})
    val = replace(train, path=Path("instance_val.json"), images=(ImageRecord(1, "a.jpg", width=9, height=8),))
    with pytest.raises(
        DatasetError, match=r"a\.jpg: 8 x 8 pixels in instance_train\.json, 9 x 8 in instance_val"
    ):
        merge_coco([train, val])


def test_annotations_of_unlisted_images_are_an_error() -> None:
    coco = file_of("instance_train.json", {1: "a.jpg"}, [(4, 2, 1)])
    for act in (lambda: merge_coco([coco]), lambda: split_coco(coco, EIGHTY_TWENTY, seed=0)):
        with pytest.raises(DatasetError, match="annotation 4: image 2, category 1"):
            act()


def test_images_with_one_id_are_an_error() -> None:
    coco = file_of("instance_train.json", {1: "a.jpg"})
    doubled = replace(coco, images=(*coco.images, ImageRecord(1, "b.jpg", width=8, height=8)))
    with pytest.raises(DatasetError, match="more than once"):
        split_coco(doubled, EIGHTY_TWENTY, seed=0)
