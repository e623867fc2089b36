"""Reads the next image while the network runs."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from paddlex_seg.files.addresses import scheme_of
from paddlex_seg.inference.sources import LIST_SUFFIXES, Input

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order. A thread makes the next one while the caller works with one.

    An error is raised where its item would be. Closing the iterator, as Ctrl-C does, waits for the item that
    is being made.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_next, items)
        while (found := coming.result()) is not None:
            coming = pool.submit(_next, items)
            yield found[0]


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    for item in items:
        return (item,)
    return None


def are_files(inputs: Input) -> bool:
    """Whether all inputs are files, folders or patterns on this machine, whose reading ends soon.

    A generator is not run ahead: it may be slow, belong to the caller's thread, or give what changes.
    """
    if isinstance(inputs, list | tuple):
        return all(map(_is_file, inputs))
    return _is_file(inputs)


def _is_file(item: Input) -> bool:
    if not isinstance(item, str | os.PathLike):
        return False
    text = os.fsdecode(item)
    return scheme_of(text) is None and Path(text).suffix.lower() not in LIST_SUFFIXES
