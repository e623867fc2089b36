"""``certificate.json``: what proves that the files of an exported folder give what the model gives.

An entry is about one graph file, run by one backend in one precision on one machine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from paddlex_seg.errors import CertificateError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.json import write_json
from paddlex_seg.structures import BackendName, Precision

Verdict = Literal["passed", "failed", "proved nothing"]
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


def add_entries(folder: Path, entries: Sequence[Entry], earlier: Sequence[Entry] | None = None) -> None:
    """Write entries into the certificate of a folder, in place of earlier ones about the same.

    earlier: the entries to keep; those of the folder unless given.
    """
    before = read_certificate(folder) if earlier is None else earlier
    kept = [one for one in before if not any(one.is_about(new) for new in entries)]
    document = {"format": _FORMAT, "entries": [asdict(one) for one in (*kept, *entries)]}
    write_json(folder / FILE, document)


def require_certified(file: Path, backend: BackendName) -> None:
    """Raise CertificateError unless the certificate beside ``file`` has an entry that is about a file of this
    content and has not failed.

    An entry about another backend will do, but not if one about ``backend`` has failed. bf16 does not count:
    it is another way to run a file that is proven in float32.
    """
    checksum, place = sha256_of(file), file.parent / FILE
    about = [
        one for one in read_certificate(file.parent) if one.graph == file.name and one.precision != "bf16"
    ]
    if not about:
        raise CertificateError(
            f"{file} has no certificate: {place} has no entry about it, so nothing says that it gives what "
            f"the model gives. {_ADVICE}"
        )
    fitting = [one for one in about if one.sha256.get(file.name) == checksum]
    if not fitting:
        raise CertificateError(
            f"{file} is not the file that its certificate is about: its SHA-256 is {checksum}, and "
            f"{place} has {about[-1].sha256.get(file.name)}. {_ADVICE}"
        )
    _require_same_parts(file, fitting[-1])
    own = [one for one in fitting if one.backend == backend] or fitting
    if own[-1].verdict == "failed":
        raise CertificateError(
            f"{file} failed its certificate for {own[-1].backend}: {'; '.join(own[-1].problems)}. {_ADVICE}"
        )


def _require_same_parts(file: Path, entry: Entry) -> None:
    """Raise CertificateError if a file beside ``file``, as .bin beside .xml, is not that of an entry."""
    for name, expected in entry.sha256.items():
        part = file.parent / Path(name).name  # a part stands beside the file, whatever its name says
        if part.stem == file.stem and (not part.is_file() or sha256_of(part) != expected):
            raise CertificateError(
                f"{part} is not the file that the certificate of {file.name} is about: expected the SHA-256 "
                f"{expected}. {_ADVICE}"
            )


def _entry(values: dict[str, Any]) -> Entry:
    if values["verdict"] not in get_args(Verdict):
        raise ValueError(f"verdict is {values['verdict']!r}")
    lists: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return Entry(**{**lists, "calls": tuple(map(tuple, values["calls"]))})
