"""Download settings from the environment."""

import os
from pathlib import Path

import pytest

from paddlex_seg.runtime.environment import spare_home
from paddlex_seg.runtime.network import network


def test_the_cache_lies_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert network().cache_dir == tmp_path / "paddlex_seg" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert network().cache_dir == tmp_path / "home" / ".cache" / "paddlex_seg" / "weights"


def test_a_user_without_a_home_has_a_temporary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user id without a name
    spare_home.cache_clear()
    try:
        folder = network().cache_dir
        assert folder == spare_home() / ".cache" / "paddlex_seg" / "weights"
        assert folder.is_absolute()
    finally:
        spare_home.cache_clear()


def test_exported_models_come_from_the_source_that_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PADDLEX_SEG_MODEL_SOURCE", raising=False)
    assert network().model_source is None
    assert network().models_dir == tmp_path / "paddlex_seg" / "models"
    monkeypatch.setenv("PADDLEX_SEG_MODEL_SOURCE", "http://mirror/models")
    assert network().model_source == "http://mirror/models"


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost,.example")
    assert network().proxies["https"] == "http://proxy:3128"
    assert network().proxies["no"] == "localhost,.example"
