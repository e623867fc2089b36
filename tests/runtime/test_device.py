"""Which device is used, and the error when a device cannot be used."""

import logging
from pathlib import Path

import paddle
import pytest

from paddlex_seg.errors import BackendError
from paddlex_seg.runtime import device
from paddlex_seg.runtime.device import use_device, warn_of_unproven_paddle
from paddlex_seg.runtime.environment import Launched


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="paddlex_seg")
    return caplog


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are three GPUs, without making Paddle use them."""
    monkeypatch.setattr(device, "_count", lambda kind: 3 if kind == "gpu" else 0)
    monkeypatch.setattr(paddle.device, "set_device", lambda name: None)


def test_the_cpu_is_used_with_all_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(paddle.base.core, "set_num_threads", threads.append)
    monkeypatch.setattr(device, "num_usable_cores", lambda: 7)
    assert use_device("cpu") == "cpu"
    assert paddle.device.get_device() == "cpu"
    assert threads == [7]


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_count", lambda kind: 0)
    assert use_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("name", "used"), [("auto", "gpu:0"), ("gpu", "gpu:0"), ("gpu:2", "gpu:2"), ("gpu:1,2", "gpu:1")]
)
def test_the_first_gpu_that_is_named_is_used(three_gpus: None, name: str, used: str) -> None:
    assert use_device(name) == used


@pytest.mark.parametrize(("rank", "local_rank", "used"), [(0, 0, "gpu:0"), (1, 1, "gpu:2"), (3, 1, "gpu:2")])
def test_each_process_of_a_machine_has_a_device_of_its_own(
    three_gpus: None, log: pytest.LogCaptureFixture, rank: int, local_rank: int, used: str
) -> None:
    place = Launched(rank, world_size=4, local_rank=local_rank, local_size=2, log_dir=Path())
    assert use_device("gpu:0,2", place) == used
    assert not log.text


@pytest.mark.parametrize(("local_size", "expected"), [(2, 3), (3, 2), (16, 1)])
def test_processes_of_a_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, local_size: int, expected: int
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(paddle.base.core, "set_num_threads", threads.append)
    monkeypatch.setattr(device, "num_usable_cores", lambda: 7)
    use_device("cpu", Launched(5, world_size=32, local_rank=1, local_size=local_size, log_dir=Path()))
    assert threads == [expected]


def test_further_devices_are_noted(three_gpus: None, log: pytest.LogCaptureFixture) -> None:
    use_device("gpu:0,2")
    assert "gpu:0,2" in log.text and "one device" in log.text


@pytest.mark.parametrize("name", ["gpu:3", "gpu:0,3"])
def test_a_gpu_beyond_the_last_is_refused(three_gpus: None, name: str) -> None:
    with pytest.raises(BackendError, match=r"3 gpu device\(s\), numbered from 0"):
        use_device(name)


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle may have the device")
@pytest.mark.parametrize("name", ["gpu:0", "npu:0", "xpu:0", "mlu:0"])
def test_a_device_of_another_build_of_paddle_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match=f"Global.device is {name}.*Use Global.device=cpu"):
        use_device(name)


@pytest.mark.parametrize(("version", "warned"), [("3.2.2", False), ("3.2.2.post1", False), ("3.3.1", True)])
def test_only_versions_that_are_not_tested_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, version: str, warned: bool
) -> None:
    monkeypatch.setattr(paddle, "__version__", version)
    warn_of_unproven_paddle()
    assert (version in log.text) == warned
