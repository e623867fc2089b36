"""Chooses the fastest backend for an exported model on this machine, among those that are proven on it.

The first call for a model takes some seconds: it compares each installed backend with the reference, and
measures it. The choice is stored with the certificates and the milliseconds, in the folder of the model if
that can be written, else in the cache folder of the user. It counts as long as the files, the installed
versions and the machine are the same.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, get_args

from paddlex_seg.data.preprocess import collate
from paddlex_seg.errors import CertificateError, PaddlexSegError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.files.written import claimed
from paddlex_seg.inference import reference
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.backends.exported_files import ALL_NAMES, ONNX, OURS, find_description, find_files
from paddlex_seg.inference.backends.open import (
    ExportedBackend,
    available_backends,
    is_installed,
    load_backend,
)
from paddlex_seg.inference.certificate import Entry, read_certificate
from paddlex_seg.inference.certify import certify, versions_of
from paddlex_seg.inference.conversion import can_convert
from paddlex_seg.inference.onnx_proof import RUNTIMES, publish_onnx, reference_of
from paddlex_seg.inference.reference import prepared
from paddlex_seg.inference.stored_inputs import NAMES, StoredInput, stored_inputs
from paddlex_seg.runtime.machine import describe_machine
from paddlex_seg.runtime.network import network
from paddlex_seg.structures import BackendName

LOGGER = logging.getLogger(__name__)
FILE = "backend_choice.json"
_FORMAT = 1
_ROUNDS = 5
_MOST_SECONDS = 20.0  # for measuring; a round that has begun ends
_HOPELESS = 4.0  # times as slow as the fastest in the first round
_MEASURED_WITH = "person"  # a photograph


def choose_backend(model_dir: Path, *, device: str = "cpu") -> BackendName:
    """The backend for `open_backend` in float32. On other devices than the CPU it is Paddle.

    Converts the network to ``network.onnx`` first where a converter and a runtime for it are installed.
    Raises CertificateError when no backend is proven, and BackendError when files are missing.
    """
    if device != "cpu":
        return "paddle"
    find_description(model_dir)  # a folder that is none is told before anything else
    stored = _stored_choice(model_dir)
    if stored is not None:
        return stored
    _convert(model_dir)
    names = available_backends(model_dir)
    if names == ["paddle"]:
        LOGGER.info("Backend: paddle, the only one that is installed and has its files.")
        return "paddle"
    loaded, entries, problems = _proven(model_dir, names)
    if not loaded:
        raise CertificateError(
            f"{model_dir}: no installed backend is proven to give what the model gives: "
            f"{'; '.join(problems)}. Export the model again, or name a backend with Predict.backend."
        )
    milliseconds = _measure(loaded)
    chosen = min(milliseconds, key=lambda name: milliseconds[name])
    LOGGER.info(
        "Backend: %s, the fastest on this machine (%s for one image and its masks).%s",
        chosen,
        ", ".join(
            f"{name} {time:.0f} ms" for name, time in sorted(milliseconds.items(), key=lambda one: one[1])
        ),
        f" Not used: {'; '.join(problems)}." if problems else "",
    )
    _store(
        model_dir,
        {
            "format": _FORMAT,
            "key": _key(model_dir),
            "backend": chosen,
            "milliseconds": {name: round(time, 2) for name, time in milliseconds.items()},
            "problems": problems,
            "certificate": [asdict(one) for one in entries],
        },
    )
    return chosen


def _convert(model_dir: Path) -> None:
    """Make ``network.onnx`` where that is possible, or say how."""
    if (model_dir / ONNX).exists() or not (model_dir / OURS).is_file():
        return
    if not can_convert():
        LOGGER.info(
            "%s has no %s, which ONNX Runtime and OpenVINO read. To make it: pip install paddle2onnx==2.1.0, "
            "and python -m paddlex_seg --paddle2onnx --paddle_model_dir %s",
            *(model_dir, ONNX, model_dir),
        )
        return
    if not any(map(is_installed, RUNTIMES)):
        return
    try:
        publish_onnx(model_dir)
    except (PaddlexSegError, OSError) as error:
        LOGGER.warning("%s was not made: %s", model_dir / ONNX, error)


def _proven(
    model_dir: Path, names: Iterable[BackendName]
) -> tuple[dict[BackendName, ExportedBackend], list[Entry], list[str]]:
    """The backends that have not failed here, what was found about all of them, and why some are missing."""
    earlier = read_certificate(model_dir)
    loaded: dict[BackendName, ExportedBackend] = {}
    entries, problems = [], []
    for name in names:
        try:
            backend = load_backend(model_dir, name)
            files = _files(model_dir, name)
            entry = _earlier_entry(earlier, name, files)
            if entry is None:
                expected, inputs = reference_of(model_dir)
                entry = certify(backend, backend.spec, expected, inputs, name=name, files=files)
        except PaddlexSegError as error:
            problems.append(f"{name}: {error}")
            continue
        entries.append(entry)
        if entry.verdict == "failed":
            problems.append(f"{name} failed its certificate ({'; '.join(entry.problems)})")
        else:
            loaded[name] = backend
    return loaded, entries, problems


def _earlier_entry(entries: Sequence[Entry], name: BackendName, files: Sequence[Path]) -> Entry | None:
    """The newest entry about the same files, versions and machine."""
    checksums = {path.name: sha256_of(path) for path in files}
    fitting = [
        one
        for one in entries
        if (one.backend, one.precision, one.graph) == (name, "f32", files[0].name)
        and (one.sha256, one.versions, one.machine) == (checksums, versions_of(name), describe_machine())
    ]
    return fitting[-1] if fitting else None


def _files(model_dir: Path, name: BackendName) -> list[Path]:
    if name == "paddle":
        files = find_files(model_dir)
        return [files.graph, files.params, files.description]
    return [model_dir / ONNX, find_description(model_dir)]


def _measure(loaded: Mapping[BackendName, ExportedBackend]) -> dict[BackendName, float]:
    """Median milliseconds from the network input to the masks of one image, in turns.

    The first round warms up. One that is several times as slow as the fastest there is not measured again.
    """
    (image,) = (one for one in stored_inputs() if one.name == _MEASURED_WITH)
    warm_up = {name: _seconds(backend, image) for name, backend in loaded.items()}
    fast = {name: loaded[name] for name in loaded if warm_up[name] <= _HOPELESS * min(warm_up.values())}
    seconds: dict[BackendName, list[float]] = {name: [] for name in fast}
    begin = time.perf_counter()
    for _ in range(_ROUNDS if len(fast) > 1 else 1):
        for name, backend in fast.items():
            seconds[name].append(_seconds(backend, image))
        if time.perf_counter() - begin > _MOST_SECONDS:
            break
    return {name: 1000 * (median(seconds[name]) if name in fast else warm_up[name]) for name in loaded}


def _seconds(backend: ExportedBackend, image: StoredInput) -> float:
    inputs = collate([prepared(image, backend.preprocess)])
    start = time.perf_counter()
    find_instances(backend, inputs, [image.size_hw], score_threshold=backend.spec.draw_threshold)
    return time.perf_counter() - start


def _key(model_dir: Path) -> dict[str, Any]:
    """What a choice depends on: files, versions and machine."""
    names = sorted({*ALL_NAMES, ONNX, reference.FILE})
    installed = [name for name in get_args(BackendName) if is_installed(name)]
    return {
        "files": {name: sha256_of(model_dir / name) for name in names if (model_dir / name).is_file()},
        "versions": {name: versions_of(name) for name in installed},
        "machine": describe_machine(),
        "inputs": list(NAMES),
    }


def _stored_choice(model_dir: Path) -> BackendName | None:
    """The choice of an earlier call; None if there is none, or something has changed since."""
    key = _key(model_dir)
    for path in _places(model_dir, key):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] == _FORMAT and document["key"] == key:
                chosen: BackendName = document["backend"]
                return chosen if chosen in get_args(BackendName) else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _store(model_dir: Path, document: Mapping[str, Any]) -> None:
    """Write the choice where it can be written. If nowhere, the next start measures again."""
    for path in _places(model_dir, document["key"]):
        try:
            with claimed(path.parent, (path.name,)):
                write_json(path, document)
            return
        except OSError:
            continue
    LOGGER.warning("The choice of the backend cannot be stored, so the next start measures again.")


def _places(model_dir: Path, key: Mapping[str, Any]) -> tuple[Path, Path]:
    """In the folder of the model, and in the cache folder of the user under a name of the description."""
    name = key["files"].get("inference.yml") or next(iter(key["files"].values()), "none")
    return model_dir / FILE, network().cache_dir.with_name("choices") / f"{name[:32]}.json"
