"""Addresses as users write them."""

from pathlib import Path

import pytest

from paddlex_seg.files.addresses import (
    AddressError,
    expected_sha256,
    file_name,
    local_path,
    scheme_of,
    to_ascii,
)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("HTTP://h/a", "http"),
        (" https://h/a", "https"),
        ("file:///a", "file"),
        ("FILE:/a", "file"),
        ("s3://b/k", "s3"),
        ("data:image/png;base64,AA", "data"),
        ("C:\\a.jpg", None),
        ("C:/a.jpg", None),
        ("12:30.jpg", None),
        ("photo:1.jpg", None),
        ("a/b.jpg", None),
    ],
)
def test_addresses_are_told_from_paths(text: str, scheme: str | None) -> None:
    assert scheme_of(text) == scheme


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://h/a/ResNet50.pdparams?x=1&y=/z", "https://h/a/ResNet50.pdparams?x=1&y=/z"),
        ("HTTP://H:80/图 1.png", "http://h:80/%E5%9B%BE%201.png"),
        ("http://h/%E5%9B%BE%201.png?q=é%20#part", "http://h/%E5%9B%BE%201.png?q=%C3%A9%20"),
        ("http://h/100%.png", "http://h/100%25.png"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://例え.テスト:8080/", "http://xn--r8jz45g.xn--zckzah:8080/"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
    ],
)
def test_an_address_is_sent_in_ascii_once_and_again(url: str, sent: str) -> None:
    assert to_ascii(url) == to_ascii(sent) == sent


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "http://[::1/a", "http://h:port/a", f"http://{'é' * 99}/"]
)
def test_an_address_without_a_valid_host_is_refused(url: str) -> None:
    with pytest.raises(AddressError):
        to_ascii(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://h/a/图%201.png?x=/y.jpg#z", "图 1.png"), ("https://h", ""), ("http://[::1/x.png", "x.png")],
)
def test_the_file_name_is_the_end_of_the_path(url: str, name: str) -> None:
    assert file_name(url) == name


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "图 1.png"
    for url in (path.as_uri(), f"file://{path}", f"FILE://localhost{path}", f"file:{path}"):
        assert local_path(url) == path
    with pytest.raises(AddressError, match="names the host server"):
        local_path("file://server/share/a.png")


def test_a_checksum_is_read_from_the_fragment() -> None:
    assert expected_sha256("http://h/a#sha256=" + 64 * "A") == 64 * "a"
    assert expected_sha256("http://h/a#page=3") is expected_sha256("http://h/a") is None
    with pytest.raises(AddressError, match="64 hexadecimal digits"):
        expected_sha256("http://h/a#sha256=xyz")
