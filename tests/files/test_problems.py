"""Errors of the system say which path, what is wrong and what to do."""

import errno
import os
from pathlib import Path

import pytest

from paddlex_seg.files.atomic import require_writable, write_text
from paddlex_seg.files.problems import problem_of_the_system


def test_a_rename_that_fails_names_the_file_once(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "result.json", "{}")
    assert problem_of_the_system(caught.value) == (
        f"{tmp_path / 'result.json'}: {os.strerror(errno.EISDIR)}. A folder has the name that a file needs. "
        "Use another path."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EAGAIN])
def test_causes_are_named_with_a_remedy(number: int) -> None:
    message = problem_of_the_system(OSError(number, os.strerror(number), "/disk/file"))
    assert message is not None
    told = f"/disk/file: {os.strerror(number)}. "
    assert message.startswith(told) and len(message) > len(told)


def test_limits_of_threads_and_memory_are_told_and_mistakes_of_ours_are_not() -> None:
    assert "thread" in str(problem_of_the_system(RuntimeError("can't start new thread")))
    assert "memory" in str(problem_of_the_system(MemoryError()))
    for error in (RuntimeError("other"), ValueError("No space left on device"), OSError("without a number")):
        assert problem_of_the_system(error) is None


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
