"""The register of written files: what counts as a file of the toolkit, and what happens to all others."""

import json
from pathlib import Path

import pytest

from paddlex_seg.files.written import REGISTER, WrittenFiles, claimed, keep_foreign


def put(path: Path, content: str) -> None:
    WrittenFiles().put(path, content.encode())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {REGISTER}


def test_a_written_file_may_be_replaced_by_a_later_run(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "first")
    assert WrittenFiles().may_write(tmp_path / "a.txt")
    put(tmp_path / "a.txt", "second")
    assert WrittenFiles().wrote(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "content", ["firsd", "first, and edited", ""], ids=["same length", "longer", "empty"]
)
def test_a_file_that_was_changed_since_is_the_users(tmp_path: Path, content: str) -> None:
    put(tmp_path / "a.txt", "first")
    (tmp_path / "a.txt").write_text(content)
    assert not WrittenFiles().may_write(tmp_path / "a.txt")


def test_the_same_content_under_another_name_is_the_users(tmp_path: Path) -> None:
    """A drawing without objects can have the very bytes of the image."""
    put(tmp_path / "a_res.png", "pixels")
    (tmp_path / "a.png").write_text("pixels")
    assert not WrittenFiles().wrote(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to a file"])
def test_what_is_no_plain_file_is_the_users(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "other.txt"
    other.write_text("photo")
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other if kind == "link to a file" else tmp_path / "nothing")
    assert not WrittenFiles().may_write(path)


def test_names_that_are_no_utf_8_are_registered(tmp_path: Path) -> None:
    put(tmp_path / "caf\udce9.txt", "first")
    assert WrittenFiles().wrote(tmp_path / "caf\udce9.txt")


def test_a_line_that_a_kill_cut_off_spoils_no_other(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "first")
    with (tmp_path / REGISTER).open("ab") as file:
        file.write(b'\n{"name": "b.t')
    put(tmp_path / "c.txt", "third")
    written = WrittenFiles()
    assert written.wrote(tmp_path / "a.txt") and written.wrote(tmp_path / "c.txt")


def test_the_free_name_is_the_first_that_is_not_the_users(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("photo")
    assert WrittenFiles().free_name(tmp_path / "a.txt").name == "a_2.txt"
    put(tmp_path / "a_2.txt", "ours")
    assert WrittenFiles().free_name(tmp_path / "a.txt").name == "a_2.txt"


def test_a_file_of_the_user_is_kept_under_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlex_seg.runtime.log.ROOT.propagate", True)
    for name, content in (("a.txt", "mine"), ("a.txt.bak", "older")):
        (tmp_path / name).write_text(content)
    backup = keep_foreign(tmp_path / "a.txt")
    assert backup is not None and backup.read_text() == "mine"
    assert names(tmp_path) == {"a.txt.bak", backup.name}
    assert str(backup) in caplog.text


def test_claimed_names_belong_to_the_run_until_it_ends(tmp_path: Path) -> None:
    with claimed(tmp_path, ("log.txt", "viewer", "part.*.txt")):
        (tmp_path / "log.txt").write_text("one line")
        (tmp_path / "viewer").mkdir()
        (tmp_path / "part.1.txt").write_text("1")
        with (tmp_path / "log.txt").open("a") as file:
            file.write("another line")
    for name in ("log.txt", "viewer", "part.1.txt"):
        assert WrittenFiles().wrote(tmp_path / name), name
    (tmp_path / "log.txt").write_text("mine")
    with claimed(tmp_path, ("log.txt",)):
        assert (tmp_path / "log.txt.bak").read_text() == "mine"


def test_what_a_killed_run_left_is_not_taken_for_the_users(tmp_path: Path) -> None:
    killed = claimed(tmp_path, ("log.txt",))
    killed.__enter__()
    (tmp_path / "log.txt").write_text("half")
    assert WrittenFiles().wrote(tmp_path / "log.txt")


def test_a_run_that_fails_before_it_writes_gives_names_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ValueError), claimed(tmp_path, ("a.txt", "b.txt", "c.txt")):
        (tmp_path / "c.txt").write_text("a part")
        raise ValueError
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert names(tmp_path) == {"a.txt", "c.txt"}
    (tmp_path / "b.txt").write_text("mine, later")
    assert not WrittenFiles().may_write(tmp_path / "a.txt")
    assert not WrittenFiles().may_write(tmp_path / "b.txt")
    assert WrittenFiles().may_write(tmp_path / "c.txt")


def test_lines_of_another_process_are_seen(tmp_path: Path) -> None:
    written, other = WrittenFiles(), WrittenFiles()
    written.put(tmp_path / "a.txt", b"one")
    assert written.may_write(tmp_path / "a.txt")
    other.put(tmp_path / "a.txt", b"two")
    other.put(tmp_path / "b.txt", b"three", "source")
    assert written.wrote(tmp_path / "a.txt") and written.wrote(tmp_path / "b.txt")
    assert not written.may_write(tmp_path / "b.txt", "another") and written.may_write(tmp_path / "b.txt")
    (tmp_path / REGISTER).unlink()
    assert not written.wrote(tmp_path / "a.txt")


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    written = WrittenFiles()
    WrittenFiles().put(tmp_path / "a.txt", b"one")
    whole = (tmp_path / REGISTER).read_bytes()
    (tmp_path / REGISTER).write_bytes(whole[:-5])
    assert not written.wrote(tmp_path / "a.txt")
    (tmp_path / REGISTER).write_bytes(whole)
    assert written.wrote(tmp_path / "a.txt")


def test_lines_of_a_register_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = WrittenFiles()
    for number in range(20):
        written.put(tmp_path / f"{number}.txt", b"content")
    parsed: list[bytes] = []

    def loads(line: bytes, real=json.loads) -> object:
        parsed.append(line)
        return real(line)

    monkeypatch.setattr(json, "loads", loads)
    for number in range(20):
        assert written.wrote(tmp_path / f"{number}.txt")
    assert len([line for line in parsed if line]) == 1  # the one that was appended since the last look
