"""All pictures of a data set looked at in parallel, and what was seen kept for the next time."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from paddlex_seg.data.pictures import Decode, PictureFacts, image_path, inspect_picture
from paddlex_seg.errors import DatasetError

_CHUNK = 64  # pictures a task: a thread's hand-over takes as long as the header of a picture


def scan_pictures(
    image_dir: Path,
    file_names: Sequence[str],
    decode: Decode,
    *,
    cache_file: Path | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[PictureFacts]:
    """The facts of each picture, in order; see `inspect_picture`.

    cache_file: where facts are kept. A picture is not read again while its size, its time of change and the
    first and last 4 KiB of its file are the same. ``progress`` is called with a number of finished pictures.
    """
    known = _read_cache(cache_file, decode)
    seen: dict[str, tuple[str, PictureFacts]] = {}

    def look(names: Sequence[str]) -> list[PictureFacts]:
        found = []
        for name in names:
            try:
                path = image_path(image_dir, name)
            except DatasetError as error:
                found.append(PictureFacts("file_name_outside", str(error).partition(". ")[0]))
                continue
            key = _fingerprint(path) if cache_file is not None else None
            known_key, facts = known.get(name, (None, None))
            if facts is None or known_key != key:
                facts = inspect_picture(path, decode)
            if key is not None:
                seen[name] = (key, facts)
            found.append(facts)
        return found

    chunks = [file_names[i : i + _CHUNK] for i in range(0, len(file_names), _CHUNK)]
    results: list[PictureFacts] = []
    # Reading and decoding leave Python's lock; two threads a core hide the waiting for the disk.
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        for found in pool.map(look, chunks):
            results += found
            progress(len(found))
    if cache_file is not None and seen != known:
        _write_cache(cache_file, decode, seen)
    return results


def content_digest(path: Path) -> bytes:
    """A hash of all bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _fingerprint(path: Path) -> str | None:
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


_VERSION = 1  # of what inspect_picture sees: a cache of another version is not used


def _read_cache(path: Path | None, decode: Decode) -> dict[str, tuple[str, PictureFacts]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None else []
        if not lines or json.loads(lines[0]) != [_VERSION, decode]:
            return {}
        return {name: (key, _facts(values)) for name, key, values in map(json.loads, lines[1:])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # a cache that cannot be read is as good as none


def _write_cache(path: Path, decode: Decode, facts: dict[str, tuple[str, PictureFacts]]) -> None:
    rows = [[name, key, _plain(values)] for name, (key, values) in facts.items()]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in [[_VERSION, decode], *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _plain(facts: PictureFacts) -> dict[str, object]:
    defaults = asdict(PictureFacts())
    values = {key: value for key, value in asdict(facts).items() if value != defaults[key]}
    if facts.thumbnail is not None:
        values["thumbnail"] = facts.thumbnail.hex()
    return values


def _facts(values: dict[str, object]) -> PictureFacts:
    plain: dict[str, object] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    if "thumbnail" in plain:
        plain["thumbnail"] = bytes.fromhex(str(plain["thumbnail"]))
    return PictureFacts(**plain)  # type: ignore[arg-type]
