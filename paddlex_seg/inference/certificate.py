"""``certificate.json``: what proves that the files of an exported folder give what the model gives.

An entry is about one graph file, run by one backend in one precision on one machine.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from paddlex_seg.errors import CertificateError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.inference.parity import Verdict
from paddlex_seg.structures import BackendName, Precision

FILE = "certificate.json"
_FORMAT = 1
_ADVICE = (
    "Export the model again where its weights are, or convert it again: "
    "python -m paddlex_seg --paddle2onnx --paddle_model_dir FOLDER."
)


@dataclass(frozen=True)
class Entry:
    """What one comparison found."""

    backend: BackendName
    precision: Precision
    graph: str  # file name
    verdict: Verdict
    problems: tuple[str, ...]  # sentences: limit, what was found, what was expected
    limits: Mapping[str, Any]
    reference: str  # what made the reference
    inputs: tuple[Mapping[str, Any], ...]  # name, size and SHA-256 of the pixels of each image
    calls: tuple[tuple[str, ...], ...]  # the images of each call of the backend
    figures: Mapping[str, Any]
    sha256: Mapping[str, str]  # of the files, by name
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    time: str  # UTC, ISO 8601
    seconds: float

    def is_about(self, other: "Entry") -> bool:
        """Whether this entry is replaced by the other one: the same files, backend, versions and machine."""
        names = ("backend", "precision", "graph", "sha256", "versions", "machine", "reference")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def read_certificate(folder: Path) -> list[Entry]:
    """The entries of a folder; [] if it has no certificate. Raises CertificateError when it is damaged."""
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [_entry(values) for values in document["entries"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CertificateError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). {_ADVICE}"
        ) from error


def add_entries(folder: Path, entries: list[Entry]) -> None:
    """Write entries into the certificate of a folder, in place of earlier ones about the same."""
    kept = [one for one in read_certificate(folder) if not any(one.is_about(new) for new in entries)]
    document = {"format": _FORMAT, "entries": [asdict(one) for one in (*kept, *entries)]}
    write_json(folder / FILE, document)


def require_certified(file: Path, backend: BackendName, precision: Precision) -> None:
    """Raise CertificateError unless the folder of ``file`` proves it for a backend: with an entry about a
    file of this content that has not failed.
    """
    checksum = sha256_of(file)
    about = [
        one
        for one in read_certificate(file.parent)
        if (one.backend, one.precision, one.graph) == (backend, precision, file.name)
    ]
    if not about:
        raise CertificateError(
            f"{file} has no certificate for {backend} with {precision}: {file.parent / FILE} has no entry "
            f"about it, so nothing says that it gives what the model gives. {_ADVICE}"
        )
    fitting = [one for one in about if one.sha256.get(file.name) == checksum]
    if not fitting:
        raise CertificateError(
            f"{file} is not the file that its certificate is about: its SHA-256 is {checksum}, and "
            f"{FILE} has {about[-1].sha256.get(file.name)}. {_ADVICE}"
        )
    if (last := fitting[-1]).verdict == "failed":
        raise CertificateError(
            f"{file} failed its certificate for {backend}: {'; '.join(last.problems)}. {_ADVICE}"
        )


def _entry(values: dict[str, Any]) -> Entry:
    if values["verdict"] not in get_args(Verdict):
        raise ValueError(f"verdict is {values['verdict']!r}")
    lists: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return Entry(**{**lists, "calls": tuple(map(tuple, values["calls"]))})
