"""What a model must find in the stored inputs, whatever runs it: the reference of certificates.

Mode export stores what the network in memory finds as ``reference.json``, so that a machine without Paddle,
or a conversion later, compares with the network itself. The rows are those of COCO's result files, with the
names of image and class instead of ids.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_seg.data.bands import bands_from_json
from paddlex_seg.data.preprocess import NetworkInput, collate, preprocess
from paddlex_seg.errors import CertificateError
from paddlex_seg.files.json import write_json
from paddlex_seg.inference.backends.base import find_instances
from paddlex_seg.inference.parity import Finding, Limits
from paddlex_seg.inference.stored_inputs import StoredInput
from paddlex_seg.masks.rle import rle_from_json, rle_to_json
from paddlex_seg.runtime.machine import describe_machine, package_versions
from paddlex_seg.structures import Backend, Instances, PreprocessSpec

FILE = "reference.json"
NETWORK = "the network in memory"
PADDLE = "Paddle on the same folder"
_FORMAT = 1
_LEAST_SCORE = Limits().score - 0.01  # the widest limit for scores is half as much


@dataclass(frozen=True)
class Reference:
    """What a model finds in the stored inputs, and how it reads images."""

    kind: str  # `NETWORK` or `PADDLE`
    finding: Finding
    preprocess: PreprocessSpec
    versions: dict[str, str]
    machine: dict[str, Any]


def make_reference(
    backend: Backend, labels: Sequence[str], inputs: Sequence[StoredInput], kind: str = NETWORK
) -> Reference:
    """The reference that a backend gives, image by image."""
    return Reference(
        kind=kind,
        finding=find_in(backend, labels, [[one] for one in inputs]),
        preprocess=backend.preprocess,
        versions=package_versions(["paddlepaddle", "paddlepaddle-gpu"]),
        machine=describe_machine(),
    )


def find_in(backend: Backend, labels: Sequence[str], calls: Sequence[Sequence[StoredInput]]) -> Finding:
    """What a backend finds in stored inputs. Each call has inputs of one size; see `batches`."""
    images: dict[str, Instances] = {}
    for call in calls:
        inputs = collate([prepared(one, backend.preprocess) for one in call])
        found = find_instances(backend, inputs, [one.size_hw for one in call], score_threshold=_LEAST_SCORE)
        images |= {one.name: instances for one, instances in zip(call, found, strict=True)}
    return Finding(tuple(labels), images)


def prepared(one: StoredInput, spec: PreprocessSpec) -> NetworkInput:
    """The network input of a stored image. Bands are for files; the stored images are RGB."""
    return preprocess(one.image, replace(spec, bands=None))


def write_reference(path: Path, reference: Reference, inputs: Sequence[StoredInput]) -> None:
    """Write ``reference.json``."""
    finding = reference.finding
    rows = [
        {
            "image": name,
            "class": finding.labels[class_id],
            "score": float(score),
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "segmentation": rle_to_json(mask),
        }
        for name, found in finding.images.items()
        for class_id, score, box, mask in zip(
            found.class_ids, found.scores, found.boxes_xyxy, found.masks, strict=True
        )
    ]
    document = {
        "format": _FORMAT,
        "made_by": reference.kind,
        "versions": reference.versions,
        "machine": reference.machine,
        "preprocess": preprocess_to_json(reference.preprocess),
        "labels": list(finding.labels),
        "inputs": {one.name: one.sha256 for one in inputs},
        "results": rows,
    }
    write_json(path, document, indent=None)


def read_reference(path: Path, inputs: Sequence[StoredInput]) -> tuple[Reference, tuple[StoredInput, ...]]:
    """The reference in a file, and those of the inputs that it is about.

    Raises CertificateError when the file cannot be used, or is about none of the inputs.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["inputs"]
        usable = tuple(one for one in inputs if known.get(one.name) == one.sha256)
        labels = tuple(map(str, document["labels"]))
        rows = defaultdict(list)
        for row in document["results"]:
            rows[row["image"]].append(row)
        reference = Reference(
            kind=str(document["made_by"]),
            finding=Finding(labels, {one.name: _instances(one, rows[one.name], labels) for one in usable}),
            preprocess=_preprocess_from_json(document["preprocess"]),
            versions=dict(document["versions"]),
            machine=dict(document["machine"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CertificateError(
            f"{path}: cannot be used ({type(error).__name__}: {error}). Copy the exported folder again, or "
            "export the model into another folder."
        ) from error
    if not usable:
        raise CertificateError(
            f"{path} is about {', '.join(known) or 'no images'}, and this version of the toolkit has other "
            "images. Export the model again."
        )
    return reference, usable


def preprocess_to_json(spec: PreprocessSpec) -> dict[str, Any]:
    """The preprocessing as JSON values."""
    return json.loads(json.dumps(asdict(spec)))


def _preprocess_from_json(values: dict[str, Any]) -> PreprocessSpec:
    lists: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return PreprocessSpec(**{**lists, "bands": bands_from_json(values["bands"])})


def _instances(one: StoredInput, rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> Instances:
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    return Instances(
        size_hw=one.size_hw,
        class_ids=np.array([labels.index(row["class"]) for row in rows], np.int64),
        scores=np.array([row["score"] for row in rows], np.float32),
        boxes_xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        masks=tuple(rle_from_json(row["segmentation"]) for row in rows),
    )
