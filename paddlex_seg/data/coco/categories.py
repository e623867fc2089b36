"""Comparison of the categories of annotation files. A class index is a position in the train file's list."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence, Set

from paddlex_seg.data.findings import summarize_problems
from paddlex_seg.errors import DatasetError
from paddlex_seg.structures import Category, CocoFile, Id


def category_differences(train: CocoFile, other: CocoFile) -> list[tuple[str, str]]:
    """The differences between the categories of two files, each as finding code and message.

    Ids, names and order must agree. A class index is a position in this list: with another order or other
    names, evaluation would compare a class with the masks of another class.
    """
    expected_in, found_in = train.path.name, other.path.name
    names, other_names = _id_to_name(train.categories), _id_to_name(other.categories)
    lists = [(names, found_in, other_names), (other_names, expected_in, names)]
    differences = [
        ("categories_differ_ids", f"{place} lacks category {id} ({owners[id]})")
        for owners, place, others in lists
        for id in owners
        if id not in others
    ]
    differences += [
        (
            "categories_differ_names",
            f"category {id} is {names[id]!r} in {expected_in} and {other_names[id]!r} in {found_in}",
        )
        for id in names
        if id in other_names and names[id] != other_names[id]
    ]
    if not differences and list(names) != list(other_names):
        order = (
            f"the order of the ids is {list(names)} in {expected_in} and {list(other_names)} in {found_in}"
        )
        differences = [("categories_differ_order", order)]
    return differences


def same_categories(train: CocoFile, val: CocoFile) -> None:
    """Raises DatasetError unless both files list the same ids and names in the same order."""
    differences = [message for _, message in category_differences(train, val)]
    if differences:
        where = f"categories of {train.path.name} and {val.path.name} (both need the same list)"
        raise DatasetError(summarize_problems(where, differences))


def unused_dummies(categories: Collection[Category], used: Set[str]) -> list[str]:
    """Names of classes without annotations that are only the supercategory of other classes."""
    groups = {category.supercategory for category in categories if category.supercategory != category.name}
    return [category.name for category in categories if category.name in groups - used]


def unused_extras(categories: Collection[Category], used: Set[str]) -> dict[str, str]:
    """Finding codes by name of unused classes that are no classes: supercategories and the background.

    used: names of classes with annotations. One class is always left.
    """
    extras = dict.fromkeys(unused_dummies(categories, used), "category_dummy")
    for category in categories:
        if is_background(category.name) and category.name not in used:
            extras[category.name] = "category_background"
    return extras if any(category.name not in extras for category in categories) else {}


def is_background(name: str) -> bool:
    """Whether a class name means the background, such as ``_background_``."""
    return name.strip().strip("_").casefold() in ("background", "背景")


def names_alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ only in blanks, case, or the form of characters.

    Forms are full-width characters, and accents as characters of their own.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_plain_form(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def listed_name(name: str, listed: Collection[str]) -> str | None:
    """The entry of a list of classes that ``name`` means: the same, or the only one alike (`names_alike`)."""
    if name in listed:
        return name
    alike = [entry for entry in listed if _plain_form(entry) == _plain_form(name)]
    return alike[0] if len(alike) == 1 else None


def _plain_form(name: str) -> str:
    form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # "Zs" are blanks, "Cc" tabs and line ends, "Cf" characters without width.
    return "".join(letter for letter in form if unicodedata.category(letter) not in ("Zs", "Cc", "Cf"))


def _id_to_name(categories: Sequence[Category]) -> dict[Id, str]:
    return {category.id: category.name for category in categories}
