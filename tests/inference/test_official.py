"""Official exported models: downloaded once, unpacked completely or not at all, and noticed when damaged."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from disks import fill, small_disk
from file_server import Server
from official_graphs import Signature, export_official
from toy_model import INPUT_HW

from paddlex_seg.catalog import MODELS
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.files.download import Network
from paddlex_seg.inference import official
from paddlex_seg.inference.backends.paddle import PaddleBackend
from paddlex_seg.inference.official import archive_address, official_model

NAME = "SOLOv2"
FILES = {
    "inference.yml": b"arch: SOLOv2",
    "inference.pdmodel": b"graph",
    "inference.pdiparams": np.random.default_rng(0).bytes(300_000),
    "inference.pdiparams.info": b"not needed",
}
NEEDED = {name: content for name, content in FILES.items() if not name.endswith(".info")}


def packed(files: dict[str, bytes], folder: str = "SOLOv2_infer/", mode: str = "w") -> bytes:
    """A tar archive with ``files`` in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def with_link() -> bytes:
    buffer = io.BytesIO(packed(FILES))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        info = tarfile.TarInfo("SOLOv2_infer/more")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def source(server: Server) -> Server:
    server.content = packed(FILES)
    return server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder of exported models."""
    return tmp_path / "cache" / "models"


def network(cache: Path, server: Server | None) -> Network:
    """A machine that has access to a server, or to none."""
    address = server.url.removesuffix("/net.pdparams") if server else "http://127.0.0.1:9/models"
    return Network(cache_dir=cache.with_name("weights"), proxies={}, model_source=address)


def get(cache: Path, server: Server | None) -> Path:
    return official_model(NAME, network(cache, server))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != official.NOTE}


def visible(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} if cache.exists() else set()


# Names and addresses


def test_every_model_of_the_catalog_has_an_address() -> None:
    assert set(official.NAMES) == set(MODELS) and len(official.NAMES) == 16
    assert archive_address("PP-YOLOE_seg-S") == (
        "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model/paddle3.0.0/"
        "PP-YOLOE_seg-S_infer.tar"
    )
    assert archive_address(NAME, "http://mirror/x/") == "http://mirror/x/SOLOv2_infer.tar"


def test_an_unknown_name_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\.\./SOLOv2' is no model.*Mask-RT-DETR-S"):
        official_model("../SOLOv2", network(cache, None))


def test_the_names_are_known_without_the_networks() -> None:
    code = (
        "import sys; import paddlex_seg.inference.official; "
        "print([name for name in sys.modules if name.startswith('paddlex_seg.models') or name == 'paddle'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# Fetching


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("folder", ["SOLOv2_infer/", "./SOLOv2_infer/", "", "./"])
def test_a_model_is_fetched_once(source: Server, cache: Path, mode: str, folder: str) -> None:
    source.content = packed(FILES, folder, mode)
    path = get(cache, source)
    assert path == cache / NAME and contents(path) == NEEDED
    assert get(cache, source) == get(cache, None) == path
    assert len(source.requests) == 1
    assert visible(cache) == {
        NAME,
        "SOLOv2.lock",
        "SOLOv2_infer.tar",
        "SOLOv2_infer.tar.sha256",
    }
    sha256 = hashlib.sha256(source.content).hexdigest()
    assert (cache / "SOLOv2_infer.tar.sha256").read_text() == sha256


def test_names_of_paddledetection_are_unpacked(source: Server, cache: Path) -> None:
    files = {"infer_cfg.yml": b"x", "model.pdmodel": b"y", "model.pdiparams": b"z"}
    source.content = packed({**files, "README.md": b"no", "model.py": b"no"})
    assert contents(get(cache, source)) == files


def test_a_transfer_that_breaks_off_is_resumed(source: Server, cache: Path) -> None:
    source.cuts = [100_000]
    assert contents(get(cache, source)) == NEEDED
    assert source.requests[1]["Range"] == "bytes=100000-"


def test_a_transfer_is_resumed_by_the_next_call(source: Server, cache: Path) -> None:
    source.cuts = [50_000, 100_000, 50_000]
    with pytest.raises(BackendError, match="broke off"):
        get(cache, source)
    assert not (cache / NAME).exists()
    assert contents(get(cache, source)) == NEEDED
    assert source.requests[-1]["Range"] == "bytes=200000-"


def test_an_unpacked_model_is_the_one_that_was_exported(source: Server, cache: Path, tmp_path: Path) -> None:
    exported = export_official(tmp_path / "exported", Signature(boxes=False))
    source.content = packed({path.name: path.read_bytes() for path in exported.iterdir()})
    backend = PaddleBackend(get(cache, source))
    size = np.float32([INPUT_HW])
    assert backend(np.ones((1, 3, *INPUT_HW), np.float32), size, np.ones_like(size)).bbox_num.tolist() == [2]


# What the server sends instead


def damaged() -> bytes:
    content = bytearray(packed(FILES))
    content[:100] = bytes(range(100, 200))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>blocked</html>", "it is a web page, not a tar archive"),
        (b"x" * 100_000, "no tar archive"),
        (packed(FILES)[:200_000], "damaged"),
        (damaged(), "no tar archive"),
        (packed({"readme.txt": b"x"}), "no exported model: inference.yml .*missing"),
        (packed({"inference.yml": b"x", "inference.json": b"y"}), "no exported model: inference.pdiparams"),
        (packed({**FILES, **{f"old/{name}": b"x" for name in FILES}}), "several exported models"),
        (packed(FILES, "../"), r"'\.\./inference\.yml' leads out"),
        (packed({**FILES, "../../.bashrc": b"x"}), r"'SOLOv2_infer/\.\./\.\./\.bashrc' leads out"),
        (packed(FILES, "/tmp/"), "'/tmp/inference.yml' leads out"),
        (with_link(), "'SOLOv2_infer/more' is a link"),
    ],
    ids=[
        *("html", "no tar", "cut", "damaged", "no model", "incomplete", "two models"),
        *("above", "above later", "absolute", "link"),
    ],
)
def test_what_is_no_archive_of_a_model_is_refused(
    source: Server, cache: Path, content: bytes, words: str
) -> None:
    source.content = content
    with pytest.raises(BackendError, match=words):
        get(cache, source)
    assert visible(cache) <= {"SOLOv2.lock", "SOLOv2_infer.tar.validator"}
    assert visible(cache.parent.parent) == {"cache"}
    source.content = packed(FILES)
    assert contents(get(cache, source)) == NEEDED


def test_a_missing_file_names_address_and_place(source: Server, cache: Path) -> None:
    address = source.url.replace("models/net.pdparams", "missing")
    machine = Network(cache_dir=cache.with_name("weights"), proxies={}, model_source=address)
    with pytest.raises(BackendError) as caught:
        official_model(NAME, machine)
    for words in (f"{address}/SOLOv2_infer.tar", "404", str(cache / "SOLOv2_infer.tar"), "model_dir"):
        assert words in str(caught.value)
    with pytest.raises(BackendError, match="PaddleX itself lists no archive"):
        official_model("MaskRCNN-ResNet50-vd-SSLDv2-FPN", machine)


def test_an_address_of_another_kind_is_named(cache: Path) -> None:
    machine = Network(cache_dir=cache.with_name("weights"), proxies={}, model_source="s3://bucket")
    with pytest.raises(BackendError, match=r"s3://bucket/SOLOv2_infer\.tar: s3: addresses are not supported"):
        official_model(NAME, machine)


# Without a network


def test_offline_the_error_says_where_to_put_the_archive_and_then_it_is_used(cache: Path) -> None:
    with pytest.raises(BackendError) as caught:
        get(cache, None)
    place = cache / "SOLOv2_infer.tar"
    for words in ("http://127.0.0.1:9/models/SOLOv2_infer.tar", f"save it as {place}", "set model_dir"):
        assert words in str(caught.value)
    place.write_bytes(packed(FILES))
    assert contents(get(cache, None)) == NEEDED
    newer = {**FILES, "inference.yml": b"arch: newer"}
    place.write_bytes(packed(newer))
    assert contents(get(cache, None))["inference.yml"] == b"arch: newer"


def test_an_archive_put_by_hand_that_cannot_be_used_is_named(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "SOLOv2_infer.tar").write_bytes(b"<html>blocked</html>")
    with pytest.raises(BackendError, match=r"SOLOv2_infer\.tar cannot be used: .* it is a web page"):
        get(cache, None)


def test_an_archive_that_replaced_a_download_is_told_apart_from_damage(source: Server, cache: Path) -> None:
    get(cache, source)
    (cache / "SOLOv2_infer.tar").write_bytes(packed({**FILES, "inference.yml": b"arch: newer"}))
    with pytest.raises(BackendError, match=r"has another SHA-256 than SOLOv2_infer\.tar\.sha256 says"):
        get(cache, None)
    (cache / "SOLOv2_infer.tar.sha256").unlink()
    assert contents(get(cache, None))["inference.yml"] == b"arch: newer"


def test_the_archive_may_be_removed_after_unpacking(source: Server, cache: Path) -> None:
    get(cache, source)
    (cache / "SOLOv2_infer.tar").unlink()
    assert contents(get(cache, None)) == NEEDED
    shutil.rmtree(cache / NAME)
    assert contents(get(cache, source)) == NEEDED


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "inference.pdiparams").write_bytes(FILES["inference.pdiparams"][:-1] + b"!"),
        lambda folder: (folder / "inference.pdiparams").write_bytes(b""),
        lambda folder: (folder / "inference.pdmodel").unlink(),
        lambda folder: (folder / "network.json").write_text("another graph"),
        lambda folder: (folder / official.NOTE).unlink(),
        lambda folder: (folder / official.NOTE).write_text("[]"),
        lambda folder: (folder / official.NOTE).write_text('{"sha256": 5}'),
    ],
    ids=["changed", "emptied", "removed", "added", "no note", "odd note", "other note"],
)
def test_a_changed_folder_is_unpacked_again_and_kept(
    source: Server, cache: Path, damage: Callable[[Path], object]
) -> None:
    damage(get(cache, source))
    changed = contents(cache / NAME)
    assert contents(get(cache, None)) == NEEDED
    assert contents(cache / "SOLOv2.bak") == changed
    assert len(source.requests) == 1


def test_a_damaged_archive_is_downloaded_again(source: Server, cache: Path) -> None:
    get(cache, source)
    (cache / "SOLOv2_infer.tar").write_bytes(source.content[:1000])
    assert contents(get(cache, source)) == NEEDED
    assert (cache / "SOLOv2_infer.tar").read_bytes() == source.content
    assert len(source.requests) == 2


# Several processes, and processes that end early

FETCH = """
import sys
from pathlib import Path
from paddlex_seg.files import tar_archive
from paddlex_seg.files.download import Network
from paddlex_seg.inference import official

def slowly(*arguments, unpack=official.unpack_files):
    unpack(*arguments)
    print("unpacked", flush=True)
    if "wait" in sys.argv:
        import time
        time.sleep(60)

official.unpack_files = slowly
machine = Network(cache_dir=Path(sys.argv[1]).with_name("weights"), proxies={}, model_source=sys.argv[2])
print(official.official_model("SOLOv2", machine))
"""


def start(cache: Path, server: Server, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FETCH, str(cache), server.url.removesuffix("/net.pdparams"), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_and_unpack_once(source: Server, cache: Path) -> None:
    source.pause_seconds = 0.002
    processes = [start(cache, source) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [output[-1] for output in outputs] == [str(cache / NAME)] * 3
    assert sum("unpacked" in output for output in outputs) == len(source.requests) == 1
    assert contents(cache / NAME) == NEEDED


def test_a_process_killed_while_unpacking_leaves_nothing_that_is_used(source: Server, cache: Path) -> None:
    process = start(cache, source, "wait")
    assert process.stdout is not None and process.stdout.readline().strip() == "unpacked"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cache / NAME).exists()
    left = [name for name in visible(cache) if ".new-" in name]
    assert left
    assert contents(get(cache, None)) == NEEDED
    assert not visible(cache) & set(left)


def test_a_process_killed_while_downloading_is_continued(source: Server, cache: Path) -> None:
    source.pause_seconds = 0.01
    process = start(cache, source)
    part = cache / "SOLOv2_infer.tar.part"
    while not (part.exists() and part.stat().st_size > 20_000):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (cache / NAME).exists() and not (cache / "SOLOv2_infer.tar").exists()
    source.pause_seconds = 0.0
    assert contents(get(cache, source)) == NEEDED
    assert "Range" in source.requests[-1]


# Disks


def test_a_full_disk_leaves_nothing_that_is_used(source: Server, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=500) as disk:  # room for the archive, but not for the files
        cache = disk / "cache" / "models"
        with pytest.raises(BackendError, match=r"its files need 0 MB, but .* has 0 MB left. Free space"):
            get(cache, source)
        assert not (cache / NAME).exists()
        fill(disk)
        with pytest.raises(BackendError, match="left|No space"):
            get(cache, source)
        assert not (cache / NAME).exists()


def test_a_disk_that_fills_while_unpacking_leaves_nothing(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack = official.unpack_files
    with small_disk(tmp_path / "disk", kilobytes=1000) as disk:

        def on_a_filled_disk(*arguments: object) -> None:
            fill(disk)
            unpack(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(official, "unpack_files", on_a_filled_disk)
        cache = disk / "cache" / "models"
        with pytest.raises(
            BackendError, match="SOLOv2 could not be unpacked into .*No space left.*XDG_CACHE_HOME"
        ):
            get(cache, source)
        assert not (cache / NAME).exists()
        assert not [name for name in visible(cache) if ".new-" in name]


def test_a_cache_that_cannot_be_written_is_named(source: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(
        BackendError, match=r"SOLOv2 could not be unpacked into .*models\. .*cache.*XDG_CACHE_HOME"
    ):
        get(tmp_path / "cache" / "models", source)
