"""Parallel inspection of all images of a data set, with a cache of the results."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from paddlex_seg.cores import num_usable_cores
from paddlex_seg.data.image_facts import Decode, ImageFacts, inspect_image
from paddlex_seg.data.images import image_path, pixel_limit
from paddlex_seg.data.workers import prepare_worker, start_context
from paddlex_seg.errors import DatasetError
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.structures import Bands

_CHUNK = 64  # images per task; sending a task to a process takes as long as reading one image header
_WORTH_PROCESSES = 20_000


def scan_images(
    image_dir: Path,
    file_names: Sequence[str],
    decode: Decode,
    *,
    bands: Bands | None = None,
    cache_file: Path | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[ImageFacts]:
    """The facts of each image, in order; see `inspect_image`.

    cache_file: cache of the facts. An image file is not read again while its size, its modification time, and
    its first and last 4 KiB are the same. ``progress`` is called with the number of newly finished images. An
    exception in ``progress`` ends the scan.
    """
    how = _settings(decode, bands)
    known = _read_cache(cache_file, how)
    wanted = [(name, known.get(name)) for name in file_names]
    chunks = [wanted[i : i + _CHUNK] for i in range(0, len(wanted), _CHUNK)]
    look = partial(_look, image_dir, decode, bands, cache_file is not None)
    results: list[_Known] = []
    with _pool(len(file_names)) as pool:
        try:
            for found in pool.map(look, chunks):
                results += found
                progress(len(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if cache_file is not None:
        seen = {name: known for name, known in zip(file_names, results, strict=True) if known[0] is not None}
        if seen != known:
            _write_cache(cache_file, how, seen)
    return [facts for _, facts in results]


_Known = tuple[str | None, ImageFacts]  # fingerprint and facts of an image file


def _pool(num_images: int) -> Executor:
    """Threads, because decoding releases the GIL. Processes for so many images that their start pays off."""
    num_cores = num_usable_cores()
    if num_images < _WORTH_PROCESSES:
        return ThreadPoolExecutor(max_workers=min(32, 2 * num_cores))
    context, limits = start_context(), (pixel_limit(),)
    return ProcessPoolExecutor(num_cores, mp_context=context, initializer=prepare_worker, initargs=limits)


def _look(
    image_dir: Path,
    decode: Decode,
    bands: Bands | None,
    with_fingerprint: bool,
    wanted: Sequence[tuple[str, _Known | None]],
) -> list[_Known]:
    found: list[_Known] = []
    for name, known in wanted:
        try:
            path = image_path(image_dir, name)
        except DatasetError as error:
            found.append((None, ImageFacts("file_name_outside", str(error).partition(". ")[0])))
            continue
        key = _fingerprint(path) if with_fingerprint else None
        if key is None or known is None or known[0] != key:
            known = (key, _of(f"{image_dir.name}/{name}", path, inspect_image(path, decode, bands)))
        found.append(known)
    return found


def _of(name: str, path: Path, facts: ImageFacts) -> ImageFacts:
    """The facts, with the name of the image as it is listed in the message, not only the last part."""
    is_named = facts.message.startswith(path.name)
    return replace(facts, message=name + facts.message[len(path.name) :]) if is_named else facts


def content_digest(path: Path) -> bytes:
    """A hash of all bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _fingerprint(path: Path) -> str | None:
    if not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            ends = file.read(4096)
            if status.st_size > 8192:
                file.seek(-4096, os.SEEK_END)
            ends += file.read(4096)
    except OSError:
        return None
    digest = hashlib.blake2b(ends, digest_size=8).hexdigest()
    return f"{status.st_size}-{status.st_mtime_ns}-{digest}"


_VERSION = 3  # of inspect_image; a cache of another version is not used


def _settings(decode: Decode, bands: Bands | None) -> list[object]:
    """What the facts of an image depend on, besides its file."""
    return [_VERSION, decode, pixel_limit(), *([] if bands is None else [str(bands)])]


def _read_cache(path: Path | None, settings: list[object]) -> dict[str, _Known]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path is not None else []
        if not lines or json.loads(lines[0]) != settings:
            return {}
        return {name: (key, _facts(values)) for name, key, values in map(json.loads, lines[1:])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # an unreadable cache is ignored


def _write_cache(path: Path, settings: list[object], facts: dict[str, _Known]) -> None:
    rows = [[name, key, _plain(values)] for name, (key, values) in facts.items()]
    write_bytes(path, "\n".join(map(json.dumps, [settings, *rows])).encode())


def _plain(facts: ImageFacts) -> dict[str, object]:
    values = {key: value for key, value in zip(_KEYS, _values(facts), strict=True) if value is not None}
    if facts.thumbnail is not None:
        values["thumbnail"] = facts.thumbnail.hex()
    return values


_KEYS = tuple(field.name for field in fields(ImageFacts))
_values = attrgetter(*_KEYS)


def _facts(values: dict[str, object]) -> ImageFacts:
    plain: dict[str, object] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    if "thumbnail" in plain:
        plain["thumbnail"] = bytes.fromhex(str(plain["thumbnail"]))
    return ImageFacts(**plain)  # type: ignore[arg-type]
