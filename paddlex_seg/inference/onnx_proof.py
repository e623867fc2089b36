"""Publishes a conversion to ``network.onnx``, if it gives what the model gives."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.files.atomic import new_files
from paddlex_seg.files.written import claimed
from paddlex_seg.inference import certificate, reference
from paddlex_seg.inference.backends.exported_files import ONNX, OURS
from paddlex_seg.inference.backends.open import INSTALLATIONS, is_installed, load_backend, load_onnx
from paddlex_seg.inference.certificate import Entry, add_entries, read_certificate
from paddlex_seg.inference.certify import DESCRIPTION, certify, missing_in_onnx, require_passed
from paddlex_seg.inference.conversion import OPSET, convert_network
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.reference import Reference, make_reference, read_reference
from paddlex_seg.inference.stored_inputs import StoredInput, stored_inputs
from paddlex_seg.structures import BackendName

LOGGER = logging.getLogger(__name__)
RUNTIMES: tuple[BackendName, ...] = ("onnxruntime", "openvino")


def publish_onnx(model_dir: Path, target: Path | None = None, *, opset: int = OPSET) -> list[Entry]:
    """Write the network of an exported folder of this toolkit as ``network.onnx``, with its certificate.

    target: the folder for them, and for copies of the description and of the reference; None is
    ``model_dir``. All files are published, or none. Returns the entries of the certificate, one for each
    installed runtime. Raises BackendError when no runtime is installed or the conversion fails, and
    CertificateError when the file gives something else.
    """
    is_own = target is None or target.resolve() == model_dir.resolve()
    folder = model_dir if target is None else target
    names = () if is_own else (DESCRIPTION, reference.FILE)
    copied = [name for name in names if (model_dir / name).is_file()]
    with claimed(folder, (ONNX, certificate.FILE, *copied)), new_files(folder) as temporary:
        convert_network(model_dir, temporary / ONNX, opset)
        entries = prove_onnx(temporary / ONNX, model_dir)
        for name in copied:
            shutil.copyfile(model_dir / name, temporary / name)
        add_entries(temporary, entries, earlier=read_certificate(model_dir) if is_own else [])
    for one in entries:
        LOGGER.info("Certificate: %s with %s %s, %.1f s.", one.graph, one.backend, one.verdict, one.seconds)
    return entries


def prove_onnx(file: Path, model_dir: Path) -> list[Entry]:
    """`certify_onnx`. Raises CertificateError when the file gives something else in a runtime."""
    entries = certify_onnx(file, model_dir)
    require_passed(entries, model_dir)
    return entries


def certify_onnx(file: Path, model_dir: Path) -> list[Entry]:
    """Compare a converted network with the reference of an exported folder, in each installed runtime.

    Raises BackendError when none is installed.
    """
    runtimes = [name for name in RUNTIMES if is_installed(name)]
    if not runtimes:
        raise BackendError(
            f"{model_dir / file.name} was not written: no installed runtime can prove that it gives what the "
            f"model gives. {' '.join(INSTALLATIONS[name] for name in RUNTIMES)}"
        )
    spec, (expected, inputs) = read_inference_yml(model_dir / DESCRIPTION), reference_of(model_dir)
    wrong = missing_in_onnx(model_dir, file, OURS)
    return [
        certify(
            load_onnx(file, spec, name),
            spec,
            expected,
            inputs,
            name=name,
            files=[file, model_dir / DESCRIPTION],
            wrong=wrong,
        )
        for name in runtimes
    ]


def reference_of(model_dir: Path) -> tuple[Reference, Sequence[StoredInput]]:
    """What the model of an exported folder must find, and in which images.

    A folder of PaddleX or of an earlier version has no ``reference.json``. Then it is what Paddle finds.
    """
    inputs = stored_inputs()
    if (model_dir / reference.FILE).is_file():
        return read_reference(model_dir / reference.FILE, inputs)
    backend = load_backend(model_dir, "paddle")
    return make_reference(backend, backend.spec.labels, inputs, kind=reference.PADDLE), inputs
