import io
import logging
import re
from pathlib import Path

import pytest
import rich
from rich.console import Console

from paddlex_seg.runtime import log


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 40 columns that remembers what was printed."""
    console = Console(file=io.StringIO(), force_terminal=True, width=40)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    return console


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("paddlex_seg", logging.INFO, "", 0, message, None, None)


def test_long_lines_and_brackets_are_printed_as_they_are(terminal: Console) -> None:
    message = "segm [red] " + "0.123  " * 12
    log.ConsoleHandler().emit(record(message))
    assert message.strip() in printed(terminal)


def test_progress_is_a_bar_on_a_terminal_with_its_text(terminal: Console) -> None:
    with log.progress_bar("epoch 1/2", total=2) as advance:
        advance("a")
        advance("b")
    assert "epoch 1/2" in printed(terminal)


def test_progress_fits_into_80_columns_with_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    with log.progress_bar("epoch 12/100", total=1234) as advance:
        advance("loss 3.123 eta 0:12:03", steps=700)
    assert re.search(r"epoch 12/100 ━+ +700/1234 loss 3\.123 eta 0:12:03", printed(console))


def test_progress_prints_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with log.progress_bar("epoch 1/2", total=2) as advance:
        advance("a")
    assert capsys.readouterr().out == ""


def test_short_work_shows_no_progress(terminal: Console, caplog: pytest.LogCaptureFixture) -> None:
    with log.work_progress("images", total=2) as advance:
        advance(1)
        advance(1)
    assert printed(terminal) == "" and caplog.records == []


def test_long_work_is_a_bar_with_count_pace_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr(log, "BAR_SECONDS", 0.0)
    with log.work_progress("images", total=1234) as advance:
        advance(1)
        advance(699)
    assert re.search(r"images ━+\S* +700/1234 \S+ images/s, 0:00:00 left", printed(console))


@pytest.mark.parametrize(
    ("total", "line"),
    [(1000, "400 of 1000 images done: "), (None, "400 images done: "), (5, "400 images done")],
)
def test_long_work_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, total: int | None, line: str
) -> None:
    lines = io.StringIO()
    handler = log.LineHandler(lines, "lines")
    log.ROOT.setLevel(logging.INFO)
    log.ROOT.addHandler(handler)
    clock = iter(range(0, 100_000, 1))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    try:
        with log.work_progress("images", total) as advance:
            for _ in range(400):
                advance(1)
    finally:
        log.ROOT.removeHandler(handler)
    assert 10 <= len(lines.getvalue().splitlines()) <= 400 / log.LINE_SECONDS
    with log.work_progress("images", total) as advance:
        pass


def test_log_file_holds_the_lines_of_its_time_in_utf_8(tmp_path: Path) -> None:
    log.ROOT.setLevel(logging.INFO)
    with log.log_file(tmp_path / "train.log"):
        log.ROOT.info("größe")
    log.ROOT.info("later")
    content = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "größe" in content and "later" not in content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_log_file_is_reported_once_and_nothing_else_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = io.StringIO()
    other = log.LineHandler(lines, "lines")
    log.ROOT.setLevel(logging.INFO)
    log.ROOT.addHandler(other)
    try:
        with log.log_file(Path("/dev/full")):
            for number in range(1000):
                log.ROOT.info("line %d", number)
    finally:
        log.ROOT.removeHandler(other)
    assert lines.getvalue().count("/dev/full cannot be written: No space left on device.") == 1
    assert "line 999" in lines.getvalue()
    assert capsys.readouterr().err == ""


def test_log_file_takes_names_that_are_not_unicode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.ROOT, "propagate", False)  # a test report cannot hold such text
    with log.log_file(tmp_path / "train.log"):
        log.ROOT.warning("image %s", b"\xff.jpg".decode("utf-8", "surrogateescape"))
    assert "image \\udcff.jpg" in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_seconds_are_shown_as_a_clock() -> None:
    assert log.format_seconds(3723.4) == "1:02:03"
