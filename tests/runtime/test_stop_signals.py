"""Stop signals: when they interrupt, and what a mode that they stop leaves."""

import codecs
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paddle
import pytest
from command_line import read_result, run_cli

from paddlex_seg.data.checking import check
from paddlex_seg.files.written import REGISTER
from paddlex_seg.inference.results import Result
from paddlex_seg.modes import evaluate
from paddlex_seg.runtime import stop_signals
from paddlex_seg.runtime.stop_signals import STOP_SIGNALS, StopSignals, catch, give_back, held, postponed

PROJECT = Path(__file__).parents[2]
needs_hangup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")


def send(number: int) -> None:
    os.kill(os.getpid(), number)


# What counts as a signal


def received(monkeypatch: pytest.MonkeyPatch, *sent: tuple[float, str]) -> list[str]:
    """The names of the signals that `catch` passes on, of those that are sent at these times (seconds)."""
    found: list[int] = []
    now = 0.0
    monkeypatch.setattr(stop_signals.time, "monotonic", lambda: now)
    before = catch(found.append)
    try:
        for now, name in sent:  # noqa: B007 - read by the clock
            send(getattr(signal, name))
    finally:
        give_back(before)
    return [signal.Signals(number).name for number in found]


@needs_hangup
def test_a_signal_to_the_process_and_to_its_group_is_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert received(monkeypatch, (0, "SIGTERM"), (0.1, "SIGTERM"), (0.9, "SIGINT")) == ["SIGTERM"]
    assert received(monkeypatch, (0, "SIGHUP"), (0.1, "SIGHUP"), (5, "SIGHUP")) == ["SIGHUP"]


@needs_hangup
def test_only_somebody_who_waits_presses_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert received(monkeypatch, (0, "SIGINT"), (1.5, "SIGINT")) == ["SIGINT", "SIGINT"]
    assert received(monkeypatch, (0, "SIGTERM"), (1, "SIGHUP"), (2, "SIGUSR1")) == ["SIGTERM"]
    # Slurm warns, and sends SIGTERM at the end of the time; the state may still be on its way to the disk.
    assert received(monkeypatch, (0, "SIGUSR1"), (60, "SIGTERM")) == ["SIGUSR1"]


@needs_hangup
def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as stop:
            send(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# When a signal interrupts


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_raises_at_once_only_where_work_may_end_anywhere(number: int) -> None:
    name = signal.Signals(number).name
    with StopSignals() as stop:
        with pytest.raises(KeyboardInterrupt, match=f"stopped by {name}"), stop.interruptible():
            send(number)
            pytest.fail("not interrupted")
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            stop.check()
    with StopSignals() as stop:
        send(number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt), stop.interruptible():
            pytest.fail("begun after the signal")
    with StopSignals(at_once=False) as stop, stop.interruptible():
        send(number)
        assert stop.requested


def within_a_codec() -> None:
    def receive(data: bytes) -> tuple[str, int]:
        signal.raise_signal(signal.SIGTERM)
        return "", len(data)

    def find(name: str) -> codecs.CodecInfo | None:
        return codecs.CodecInfo(codecs.utf_8_encode, receive, name=name) if name == "receives" else None

    codecs.register(find)
    try:
        b"name".decode("receives")
    finally:
        codecs.unregister(find)


def within_a_new_class() -> None:
    class Receiver:
        def __set_name__(self, owner: type, name: str) -> None:
            signal.raise_signal(signal.SIGTERM)

    type("New", (), {"field": Receiver()})


@pytest.mark.parametrize("work", [within_a_codec, within_a_new_class])
def test_a_signal_is_told_where_python_makes_another_error_of_the_interrupt(work: Callable[[], None]) -> None:
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt) as raised, stop.interruptible():
        work()
    assert str(raised.value) == "stopped by SIGTERM. To start again, run the same command"


def test_an_error_after_a_signal_stays_an_error() -> None:
    with StopSignals() as stop, pytest.raises(OSError, match="full"), stop.interruptible():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise OSError("the disk is full") from None


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_signals, "REPEATED_SECONDS", 0.0)
    with StopSignals():
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="second signal, SIGINT"):
            send(signal.SIGINT)


def test_signals_wait_while_they_are_held() -> None:
    waited = []
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt), stop.interruptible():
        with held():
            signal.raise_signal(
                signal.SIGTERM
            )  # to this thread; the process has others when Paddle is loaded
            time.sleep(0.01)
            waited.append(not stop.requested)
        pytest.fail("not interrupted")
    assert waited == [True]


# What a stopped mode leaves


def stop_within(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Send a signal to this process at the end of a function's first call."""
    function = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        send(number)
        return result

    patch.setattr(owner, name, call)


CASES = [("check_dataset", number) for number in STOP_SIGNALS]
CASES += list(zip(("evaluate", "export", "predict"), STOP_SIGNALS[1:] * 2, strict=False))  # these take longer


@pytest.mark.parametrize(("mode", "number"), CASES)
def test_a_stopped_mode_says_so_and_leaves_nothing_half_written(
    dataset: Path,
    weights: Path,
    exported: Path,
    findable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    number: int,
) -> None:
    places = {
        "check_dataset": (check, "measure"),
        "evaluate": (evaluate, "evaluate_coco"),
        "export": (paddle.jit, "save"),
        "predict": (Result, "save_to_img"),
    }
    stop_within(monkeypatch, *places[mode], number)
    before = signal.getsignal(number)
    outcome = run_cli(
        mode,
        tmp_path,
        Global__dataset_dir=dataset if mode == "check_dataset" else findable,
        Evaluate__weight_path=weights,
        Export__weight_path=weights,
        Predict__model_dir=exported,
        Predict__input=dataset / "images",
        Train__num_workers=0,
    )
    message = f"stopped by {signal.Signals(number).name}. To start again, run the same command"
    assert (outcome.code, outcome.stderr) == (1, f"{message}\n")
    result = read_result(tmp_path, mode)
    assert (result["done_flag"], result["err_msg"]) == (False, message)
    assert signal.getsignal(number) == before
    results = result.get("results", [])
    assert len(results) == (mode == "predict")  # its first one was whole
    saved = {Path(path).name for row in results for path in (row["image"], row["json"])}
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {f"{mode}_result.json", REGISTER, *saved}


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_signal_during_the_import_of_paddle_leaves_a_result_and_no_trace(
    exported: Path, dataset: Path, tmp_path: Path
) -> None:
    """Python lists each module on standard error when it has been imported."""
    options = {"Global.mode": "predict", "Global.output": tmp_path, "Predict.model_dir": exported}
    options |= {"Predict.input": dataset / "images", "Global.device": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", PROJECT / "main.py", "-c", "PP-YOLOE_seg-S"]
        + [f"-o{key}={value}" for key, value in options.items()],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split("|")[-1].strip() == "paddle.base":
            process.send_signal(signal.SIGTERM)
            break
    _, rest = process.communicate()
    lines = [line for line in rest.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, lines) == (1, ["stopped by SIGTERM. To start again, run the same command"])
    assert read_result(tmp_path, "predict")["done_flag"] is False


# Work that no signal may interrupt


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_postponed_signal_comes_at_the_end(number: int) -> None:
    done: list[str] = []
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt), stop.interruptible():
        with postponed():
            send(number)
            send(number)
            done.append("all")
        done.append("more")
    assert done == ["all"]


def test_an_error_comes_before_a_postponed_signal_and_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt) as interruption, stop.interruptible():
        with postponed():
            send(signal.SIGINT)
            raise ValueError("of the work")
    assert isinstance(interruption.value.__context__, ValueError)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_outside_of_the_main_thread_nothing_is_postponed() -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: postponed().__enter__()).result() is None
