"""Official exported models by name: their archives are downloaded once, and unpacked into the cache.

PaddleX publishes ``<Model>_infer.tar`` for its models; PaddleX 3.7.2 loads those of the folder
``paddle3.0.0``. The cache folder ``models`` has the archive, its SHA-256 in ``<archive>.sha256``, and the
folder ``<Model>`` with the files of the exported model. An archive that was put there by hand is used as
well. ``NOTE`` in the folder has the checksums of its files, which are compared at each use.
"""

import json
import logging
import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.files.addresses import scheme_of, unsupported
from paddlex_seg.files.atomic import new_folder, remove_leftovers
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.download import DownloadError, Network
from paddlex_seg.files.json import write_json
from paddlex_seg.files.problems import explain
from paddlex_seg.files.publish import free_backup
from paddlex_seg.files.tar_archive import ArchiveError, list_files, unpack_files
from paddlex_seg.files.weights_cache import download_recorded, is_sound, one_process_at_a_time, record_of
from paddlex_seg.inference.backends.exported_files import ALL_NAMES, choose_files, missing_files

LOGGER = logging.getLogger(__name__)
SOURCE = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model/paddle3.0.0"
NAMES = (
    *("Mask-RT-DETR-S", "Mask-RT-DETR-M", "Mask-RT-DETR-L", "Mask-RT-DETR-X", "Mask-RT-DETR-H"),
    "PP-YOLOE_seg-S",
    "MaskRCNN-ResNet50",
    "MaskRCNN-ResNet50-FPN",
    "MaskRCNN-ResNet50-vd-FPN",
    "MaskRCNN-ResNet50-vd-SSLDv2-FPN",
    "MaskRCNN-ResNet101-FPN",
    "MaskRCNN-ResNet101-vd-FPN",
    "MaskRCNN-ResNeXt101-vd-FPN",
    "Cascade-MaskRCNN-ResNet50-FPN",
    "Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN",
    "SOLOv2",
)
UNLISTED = ("MaskRCNN-ResNet50-vd-SSLDv2-FPN",)  # a name of PaddleX that no version of it has an archive of
NOTE = "unpacked.json"


def archive_address(name: str, source: str | None = None) -> str:
    """The address of the archive of a model. source: the folder of archives; None: the official one."""
    return f"{(source or SOURCE).rstrip('/')}/{name}_infer.tar"


def official_model(name: str, network: Network) -> Path:
    """The folder of the official exported model ``name``, downloaded and unpacked if it is not in the cache.

    If several processes need the same model, one downloads it and the others wait. Raises ConfigError for an
    unknown name. Raises BackendError, which names the address and where to put the file, when the model
    cannot be had.
    """
    if name not in NAMES:
        raise ConfigError(
            f"{name!r} is no model with an official export. Expected one of {', '.join(NAMES)}."
        )
    folder, archive = network.models_dir / name, network.models_dir / f"{name}_infer.tar"
    if _is_unpacked(folder, archive):
        return folder
    try:
        with one_process_at_a_time(network.models_dir / f"{name}.lock", name):
            if not _is_unpacked(folder, archive):  # another process may have unpacked it meanwhile
                remove_leftovers(network.models_dir)
                _require_archive(name, archive, network)
                _unpack(archive, folder)
    except OSError as error:
        raise BackendError(
            f"The official model {name} could not be unpacked into {network.models_dir}. {explain(error)} "
            "XDG_CACHE_HOME sets another place for the cache; or set model_dir to the folder of an exported "
            "model."
        ) from error
    return folder


def _require_archive(name: str, archive: Path, network: Network) -> None:
    """Download ``archive`` unless it is there. Raises BackendError."""
    if is_sound(archive, None, _require_model):
        return
    address = archive_address(name, network.model_source)
    try:
        if (scheme := scheme_of(address)) not in ("http", "https"):
            raise DownloadError(unsupported(str(scheme)))
        download_recorded(address, archive, network=network, sha256=None, verify=_require_model)
    except (DownloadError, BackendError, OSError) as problem:
        reason = explain(problem) if isinstance(problem, OSError) else str(problem)
        raise BackendError(
            f"The official model {name} could not be downloaded from {address}: {reason.rstrip('.')}."
            f"{_found_instead(archive)} Download it on a machine with access to this address and save it as "
            f"{archive}, or set model_dir to the folder of an exported model.{_advice(name)}"
        ) from problem


def _found_instead(archive: Path) -> str:
    """Why an archive that is there was not used."""
    if not archive.is_file():
        return ""
    try:
        _require_model(archive)
    except BackendError as problem:
        return f" {archive} cannot be used: {str(problem).rstrip('.')}."
    return (
        f" {archive} has another SHA-256 than {record_of(archive).name} says: it is damaged, or was replaced "
        f"by hand. In the latter case, remove {record_of(archive).name}, and it is used."
    )


def _advice(name: str) -> str:
    return f" PaddleX itself lists no archive of {name}." if name in UNLISTED else ""


def _require_model(archive: Path) -> None:
    """Raise BackendError unless a file is a safe archive of one exported model. The message has no path."""
    try:
        _model_files(archive)
    except ArchiveError as problem:
        raise BackendError(f"the archive is refused, because {problem}. Nothing was unpacked") from problem


def _model_files(archive: Path) -> tuple[dict[str, str], int]:
    """The files of the exported model in an archive: name by member, and how many bytes they have.

    Raises ArchiveError when there is none, or more than one.
    """
    sizes = list_files(archive)
    folders: dict[str, dict[str, str]] = {}
    for member in sizes:
        place, name = posixpath.split(member)
        if name in ALL_NAMES:
            folders.setdefault(place, {})[member] = name
    complete = {
        place: names for place, names in folders.items() if choose_files(set(names.values())) is not None
    }
    if len(complete) > 1:
        places = ", ".join(repr(place or ".") for place in complete)
        raise ArchiveError(f"it has several exported models, in {places}")
    if not complete:
        nearest = max(folders.values(), key=len, default={})
        missing = ", ".join(missing_files(set(nearest.values())))
        raise ArchiveError(f"it has no exported model: {missing} missing")
    (names,) = complete.values()
    return names, sum(sizes[member] for member in names)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into ``folder``, all or nothing. A folder with other content is kept as ``.bak``."""
    try:
        names, num_bytes = _model_files(archive)
        if num_bytes > (free := shutil.disk_usage(archive.parent).free):
            raise BackendError(
                f"{archive}: its files need {num_bytes / 1e6:.0f} MB, but {archive.parent} has "
                f"{free / 1e6:.0f} MB left. Free space there, or set XDG_CACHE_HOME to a folder on another "
                "disk."
            )
        if folder.exists():
            LOGGER.warning("%s changed since it was unpacked. It is unpacked again.", folder)
        with new_folder(folder, backup=free_backup) as new:
            unpack_files(archive, names, new)
            write_json(new / NOTE, _note(new, archive))
    except ArchiveError as problem:
        raise BackendError(
            f"{archive} cannot be unpacked, because {problem}. Download it again, or set model_dir to the "
            "folder of an exported model."
        ) from problem


def _note(folder: Path, archive: Path) -> dict[str, Any]:
    state = archive.stat()
    return {
        "archive": {"size": state.st_size, "changed": state.st_mtime_ns, "sha256": sha256_of(archive)},
        "sha256": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }


def _is_unpacked(folder: Path, archive: Path) -> bool:
    """Whether ``folder`` is as it was unpacked from ``archive``. The archive may be missing by now."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        checksums: Mapping[str, str] = note["sha256"]
        present = {name for name in ALL_NAMES if (folder / name).exists()}
        return (
            present == set(checksums)
            and all(sha256_of(folder / name) == checksum for name, checksum in checksums.items())
            and _is_of(archive, note["archive"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_of(archive: Path, known: Mapping[str, Any]) -> bool:
    if not archive.is_file():
        return True
    state = archive.stat()
    if (state.st_size, state.st_mtime_ns) == (known["size"], known["changed"]):
        return True
    return state.st_size == known["size"] and sha256_of(archive) == known["sha256"]
