"""A training that nothing happens to, to compare with."""

from pathlib import Path

import pytest
from disturbed import train

from paddlex_seg.training import output as training_output


@pytest.fixture(scope="session")
def whole_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `disturbed.train`, without the export."""
    output = tmp_path_factory.mktemp("whole run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_output, "export_model", lambda *args: None)
        outcome = train(dataset, output)
    assert outcome.code == 0, outcome.stderr
    return output


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the export, which takes longer than everything else in a tiny training."""
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)
