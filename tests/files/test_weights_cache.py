"""Weights that a setting names by a path or an address, and the cache of downloaded ones."""

import hashlib
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from file_server import CONTENT, Server

from paddlex_seg.errors import WeightsError
from paddlex_seg.files import weights_cache
from paddlex_seg.files.download import Network
from paddlex_seg.files.weights_cache import cached_name, fetch, resolve_weights

SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "Train.pretrain_weight_path"


def accept(path: Path) -> None:
    """Content that starts with "damaged" is no weights."""
    if path.read_bytes().startswith(b"damaged"):
        raise WeightsError("no weights")


def network(cache_dir: Path, **proxies: str) -> Network:
    return Network(cache_dir=cache_dir, proxies=proxies)


def files_in(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def get(server: Server, folder: Path, sha256: str = "") -> Path:
    url = server.url + (f"#sha256={sha256}" if sha256 else "")
    return fetch(url, config_key=KEY, network=network(folder), verify=accept)


# Fetching


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path / "new", sha256=SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert path.name.startswith("net-") and path.suffix == ".pdparams"
    assert get(server, tmp_path / "new", sha256=SHA256) == get(server, tmp_path / "new") == path
    assert len(server.requests) == 1
    assert files_in(path.parent) == {".pdparams", ".lock", ".sha256"}


def test_a_file_without_a_length_is_fetched(server: Server, tmp_path: Path) -> None:
    server.send_length = False
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_two_addresses_never_share_a_file(server: Server, tmp_path: Path) -> None:
    first = fetch(server.url, config_key=KEY, network=network(tmp_path), verify=accept)
    server.content = b"another"
    second = fetch(
        server.url.replace("models", "others"), config_key=KEY, network=network(tmp_path), verify=accept
    )
    third = fetch(server.url + "?v=2", config_key=KEY, network=network(tmp_path), verify=accept)
    assert first.read_bytes() == CONTENT
    assert second.read_bytes() == third.read_bytes() == b"another"
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://h/a/ResNet50_cos.pdparams", r"ResNet50_cos-[0-9a-f]{8}\.pdparams"),
        ("https://h/a%2F..%2F..%2Fetc%20x.pdparams?x=/y", r"[\w.-]+-[0-9a-f]{8}\.pdparams"),
        ("https://h/", r"weights-[0-9a-f]{8}"),
        ("https://h/" + "x" * 500, r"x{80}-[0-9a-f]{8}"),
    ],
)
def test_cached_names_are_plain_file_names(url: str, pattern: str) -> None:
    assert re.fullmatch(pattern, cached_name(url))


def test_a_redirection_is_followed_over_http_and_to_nothing_else(server: Server, tmp_path: Path) -> None:
    elsewhere = server.url.replace("models/net.pdparams", "elsewhere?")
    assert (
        fetch(elsewhere + server.url, config_key=KEY, network=network(tmp_path), verify=accept).read_bytes()
        == CONTENT
    )
    secret = tmp_path / "secret"
    secret.write_text("x")
    for target in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(WeightsError, match="could not be downloaded"):
            fetch(elsewhere + target, config_key=KEY, network=network(tmp_path), verify=accept)


# Errors


def test_a_wrong_checksum_is_an_error_and_leaves_nothing_to_be_used(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}"):
        get(server, tmp_path, sha256="0" * 64)
    assert files_in(tmp_path) <= {".lock", ".validator"}


def test_a_cached_file_with_another_checksum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / cached_name(server.url)).write_bytes(b"damaged")
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_a_cached_file_that_changed_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_damaged_file_in_a_cache_without_checksums_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / cached_name(server.url)
    path.write_bytes(b"sound")
    assert get(server, tmp_path).read_bytes() == b"sound"
    path.write_bytes(b"damaged")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_what_is_no_weights_does_not_enter_the_cache(server: Server, tmp_path: Path) -> None:
    server.content = b"damaged"
    for _ in range(2):
        with pytest.raises(WeightsError, match="could not be downloaded: no weights"):
            get(server, tmp_path)
    server.content = CONTENT
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_checksum_that_is_none_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"{KEY}: .*#sha256=12 is no SHA-256"):
        get(server, tmp_path, sha256="12")
    assert not server.requests


def test_a_missing_file_names_the_address_and_the_key_to_set(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("models", "missing")
    with pytest.raises(WeightsError, match="404") as error:
        fetch(url, config_key=KEY, network=network(tmp_path), verify=accept)
    assert url in str(error.value) and f"set {KEY} to the path of that file" in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/net.pdparams", "https://no-such-host.invalid/net.pdparams"]
)
def test_without_a_network_the_error_tells_what_to_do(tmp_path: Path, url: str) -> None:
    with pytest.raises(WeightsError, match="Download it manually") as error:
        fetch(url, config_key=KEY, network=network(tmp_path), verify=accept)
    assert url in str(error.value) and KEY in str(error.value)


def test_a_cache_that_cannot_be_made_is_an_error_with_advice(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="Download it manually"):
        get(server, tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/net.pdparams",
        "data:,x",
        "ppdet://models/net.pdparams",
        "S3://bucket/a b",
        "hdfs:///x",
        "oss://b/x",
    ],
)
def test_other_kinds_of_addresses_are_refused(url: str, tmp_path: Path) -> None:
    scheme = url.partition(":")[0].lower()
    with pytest.raises(
        WeightsError, match=f"{KEY}: '{url}': {scheme}: .*not supported. .*http, https and file"
    ):
        fetch(url, config_key=KEY, network=network(tmp_path), verify=accept)


# Several at once


def test_processes_that_want_the_same_file_download_it_once(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from paddlex_seg.files.download import Network;"
        "from paddlex_seg.files.weights_cache import fetch;"
        "print(fetch(sys.argv[1], config_key='k', network=Network(Path(sys.argv[2]), {}), verify=id))"
    )
    command = [sys.executable, "-c", code, server.url, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(server.requests) == 1
    assert [Path(path).read_bytes() == CONTENT for path in paths] == [True]


def test_a_second_download_waits_until_the_first_is_done(tmp_path: Path) -> None:
    order = []
    lock = tmp_path / "x.lock"

    def second() -> None:
        with weights_cache.one_process_at_a_time(lock, "x"):
            order.append("second")

    with weights_cache.one_process_at_a_time(lock, "x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# Values of the configuration


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.pdparams"
    path.write_bytes(b"x")
    assert resolve_weights(str(path), KEY, network=network(tmp_path), verify=accept) == path


def test_an_address_is_fetched(server: Server, tmp_path: Path) -> None:
    path = resolve_weights(f"{server.url}#sha256={SHA256}", KEY, network=network(tmp_path), verify=accept)
    assert path.read_bytes() == CONTENT


def test_a_file_address_is_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "a b.pdparams"
    path.write_bytes(CONTENT)
    assert (
        resolve_weights(f"{path.as_uri()}#sha256={SHA256}", KEY, network=network(tmp_path), verify=accept)
        == path
    )
    with pytest.raises(WeightsError, match=f"{KEY}: .* has SHA-256 {SHA256}, expected 00"):
        resolve_weights(f"{path.as_uri()}#sha256={'0' * 64}", KEY, network=network(tmp_path), verify=accept)
    with pytest.raises(WeightsError, match=f"{KEY}: .* does not exist"):
        resolve_weights(path.as_uri() + "x", KEY, network=network(tmp_path), verify=accept)


def test_a_folder_with_weights_names_them_and_an_exported_folder_its_use(tmp_path: Path) -> None:
    (tmp_path / "best.pdparams").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a folder.*contains .*best\.pdparams"):
        resolve_weights(str(tmp_path), KEY, network=network(tmp_path), verify=accept)
    (tmp_path / "inference.yml").write_text("x")
    with pytest.raises(WeightsError, match=r"is an exported model, for mode predict"):
        resolve_weights(str(tmp_path), KEY, network=network(tmp_path), verify=accept)


@pytest.mark.parametrize("value", ["x" * 5000, "C:\\weights\\a.pdparams", "a\0b"])
def test_what_no_path_can_be_does_not_exist(tmp_path: Path, value: str) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        resolve_weights(value, KEY, network=network(tmp_path), verify=accept)


@pytest.mark.parametrize(("name", "words"), [("none.pdparams", "does not exist"), (".", "is a folder")])
def test_a_path_that_is_no_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=f"{KEY}: '{name}' {words}") as error:
        resolve_weights(name, KEY, network=network(tmp_path), verify=accept)
    assert str(tmp_path) in str(error.value)
