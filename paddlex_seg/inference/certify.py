"""Proves that an exported folder gives what its model gives, before it is published or used.

The candidate is the folder as a user opens it: class names, preprocessing and mask frame are those of
``inference.yml``. It runs on the stored inputs, some of them as one batch, and what it finds is compared with
what the reference found image by image. Parameters are compared exactly: a single changed number may not
change any detection.
"""

import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_seg.errors import CertificateError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.backends.base import fitting_batch_size
from paddlex_seg.inference.backends.graph_file import read_graph
from paddlex_seg.inference.backends.onnx_tensors import constant_bytes
from paddlex_seg.inference.backends.parameter_file import read_parameters
from paddlex_seg.inference.certificate import Entry
from paddlex_seg.inference.export_spec import ExportedSpec
from paddlex_seg.inference.parity import compare, limits_for
from paddlex_seg.inference.reference import Reference, find_in, prepared, preprocess_to_json
from paddlex_seg.inference.stored_inputs import StoredInput
from paddlex_seg.runtime.machine import describe_machine, package_versions
from paddlex_seg.structures import Backend, BackendName, Precision, PreprocessSpec

LOGGER = logging.getLogger(__name__)
PARAMETERS, DESCRIPTION = "inference.pdiparams", "inference.yml"
_BATCH = 3  # images
_PACKAGES: Mapping[BackendName, Sequence[str]] = {
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
}


def certify(
    backend: Backend,
    spec: ExportedSpec,
    reference: Reference,
    inputs: Sequence[StoredInput],
    *,
    name: BackendName,
    files: Sequence[Path],
    precision: Precision = "f32",
    wrong: Sequence[str] = (),
) -> Entry:
    """Compare a loaded backend with the reference, on some of its inputs.

    spec: the content of ``inference.yml``; files: those that were loaded, the graph first; wrong: the
    problems of `wrong_parameters` or `missing_in_onnx`. A comparison that fails is an entry, no error: see
    `require_passed`.
    """
    start = time.perf_counter()
    calls = batches(inputs, backend.preprocess, most=fitting_batch_size(backend, _BATCH))
    found = find_in(backend, spec.labels, calls)
    found = found.of([one.name for one in inputs])
    limits = limits_for(spec.model_name)
    result = compare(reference.finding.of([one.name for one in inputs]), found, limits)
    problems = (*wrong, *_wrong_description(spec, reference), *result.problems)
    return Entry(
        backend=name,
        precision=precision,
        graph=files[0].name,
        verdict="failed" if problems else result.verdict,
        problems=problems,
        limits=limits.to_json(),
        reference=reference.kind,
        inputs=tuple(
            {"name": one.name, "size_hw": list(one.size_hw), "sha256_of_pixels": one.sha256} for one in inputs
        ),
        calls=tuple(tuple(one.name for one in call) for call in calls),
        figures=result.figures,
        sha256={path.name: sha256_of(path) for path in files},
        versions=versions_of(name),
        machine=describe_machine(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 2),
    )


def versions_of(name: BackendName) -> dict[str, str]:
    """The versions that decide what a backend computes."""
    return package_versions(_PACKAGES[name])


def files_of(folder: Path, graph: str) -> list[Path]:
    """The files that a backend loads for a graph of an exported folder, the graph first."""
    own = [graph] if graph.endswith(".onnx") else [graph, PARAMETERS]
    return [folder / name for name in (*own, DESCRIPTION)]


def batches(inputs: Sequence[StoredInput], spec: PreprocessSpec, most: int) -> list[list[StoredInput]]:
    """The inputs in calls of a backend: some with network inputs of one size together, the others alone."""
    by_size: dict[tuple[int, ...], list[StoredInput]] = defaultdict(list)
    for one in inputs:
        by_size[prepared(one, spec).image.shape].append(one)
    batch = max(by_size.values(), key=len)[:most]
    together = {one.name for one in batch}
    return [batch, *([one] for one in inputs if one.name not in together)]


def wrong_parameters(folder: Path, graph: str, expected: Mapping[str, Any]) -> list[str]:
    """Which parameters of a graph are not, bit by bit, those of the network.

    expected: arrays or tensors by Paddle's names, which are those of the graph file.
    """
    different, unknown = [], []
    for name, values in read_parameters(folder / PARAMETERS, read_graph(folder / graph)):
        if name not in expected:
            unknown.append(name)
            continue
        own = np.asarray(expected[name])
        if own.shape != values.shape or own.tobytes() != values.tobytes():
            different.append(name)
    problems = []
    if different:
        problems.append(
            f"{len(different)} parameters in {PARAMETERS} are not those of the network ({_some(different)}); "
            "expected equal values"
        )
    if unknown:
        problems.append(f"{PARAMETERS} has parameters that the network has not ({_some(unknown)})")
    return problems


def missing_in_onnx(folder: Path, onnx: Path, graph: str) -> list[str]:
    """Which parameters of an exported graph are not among the constants of the ONNX file made of it.

    The converter does not keep their names, so values are compared: each must be there as often.
    """
    there = Counter(hashlib.sha256(content).digest() for content in constant_bytes(onnx))
    missing = []
    for name, values in read_parameters(folder / PARAMETERS, read_graph(folder / graph)):
        key = hashlib.sha256(values.tobytes()).digest()
        if there[key] == 0:
            missing.append(name)
        there[key] -= 1
    if not missing:
        return []
    return [
        f"{onnx.name} lacks the values of {len(missing)} parameters of {PARAMETERS} ({_some(missing)}); "
        "expected all of them, unchanged"
    ]


def require_passed(entries: Sequence[Entry], folder: Path) -> None:
    """Raise CertificateError if an entry has failed; log a warning if one proved nothing."""
    failed = [one for one in entries if one.verdict == "failed"]
    if failed:
        texts = [
            f"{one.graph} with {one.backend} ({one.precision}): {'; '.join(one.problems)}" for one in failed
        ]
        raise CertificateError(
            f"{folder}: nothing was published, because what was written does not give what the model gives. "
            f"{'. '.join(texts)}. This is a fault of the conversion or of an installed library. See "
            "docs/certificate.md."
        )
    for one in entries:
        if one.verdict == "proved nothing":
            LOGGER.warning(
                "The certificate of %s with %s proves nothing: the model finds nothing with a score above %s "
                "in the stored images. Only parameters, class names and preprocessing were compared.",
                *(one.graph, one.backend, one.limits["score"]),
            )


def _wrong_description(spec: ExportedSpec, reference: Reference) -> list[str]:
    problems = []
    if spec.labels != (expected := reference.finding.labels):
        places = [i for i, pair in enumerate(zip(spec.labels, expected, strict=False)) if pair[0] != pair[1]]
        place = places[0] if places else min(len(spec.labels), len(expected))
        problems.append(
            f"the class names differ: class {place} is {_name(spec.labels, place)}; expected "
            f"{_name(expected, place)}"
        )
    found, wanted = preprocess_to_json(spec.preprocess), preprocess_to_json(reference.preprocess)
    problems += [
        f"the preprocessing differs: {key} is {found[key]}; expected {wanted[key]}"
        for key in found
        if found[key] != wanted[key]
    ]
    return problems


def _name(labels: Sequence[str], place: int) -> str:
    return repr(labels[place]) if place < len(labels) else "missing"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
