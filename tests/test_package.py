"""Importing the package is light, and its functions leave a user's process as it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_model import export_toy

import paddlex_seg


def run_python(code: str, *arguments: str) -> dict:
    """What a fresh process prints as JSON in its last line."""
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = """
import sys, json
import paddlex_seg
print(json.dumps({"loaded": sorted(sys.modules), "names": dir(paddlex_seg)}))
"""
    found = run_python(code)
    assert not {"paddle", "numpy", "pydantic", "cv2", "yaml", "logging"} & set(found["loaded"])
    assert not any(name.startswith("paddlex_seg.") for name in found["loaded"])
    assert found["names"] == ["__version__", "create_model", "create_pipeline", "save_to_coco"]


def test_all_public_names_exist_and_others_do_not() -> None:
    for name in paddlex_seg.__all__:
        assert getattr(paddlex_seg, name)
    with pytest.raises(AttributeError, match="module 'paddlex_seg' has no attribute 'create_modle'"):
        paddlex_seg.create_modle  # noqa: B018
    with pytest.raises(ImportError):
        from paddlex_seg import nothing  # noqa: F401


STATE = """
import json, logging, os, signal, sys, warnings

def state():
    return {
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "folder": os.getcwd(),
        "umask": [os.umask(0o22), os.umask(0o22)][0],
        "loggers": [
            [repr(log.handlers), log.level, log.propagate]
            for log in (logging.getLogger(), logging.getLogger("paddlex_seg"))
        ],
        "streams": [sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__, str(sys.excepthook)],
    }

environment = dict(os.environ)
before = state()
"""


CHANGED = """
after = state()
names = {*environment, *os.environ}
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "variables": sorted(name for name in names if environment.get(name) != os.environ.get(name)),
}))
"""


def changed(code: str, *arguments: str) -> dict:
    return run_python(f"{STATE}\n{code}\n{CHANGED}", *arguments)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_toy(tmp_path_factory.mktemp("toy"))


def test_a_prediction_leaves_the_process_as_it_is(model_dir: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((64, 96, 3), np.uint8))
    alone = changed("import paddle")
    code = """
import numpy as np
from paddlex_seg import create_model
assert len(list(create_model(model_dir=sys.argv[1], device="cpu").predict(np.load(sys.argv[2])))) == 1
"""
    found = changed(code, str(model_dir), str(tmp_path / "image.npy"))
    assert found["changed"] == alone["changed"]
    # What libraries of Paddle read only once, see prepare_process.
    assert set(found["variables"]) - set(alone["variables"]) <= {"GLOG_minloglevel", "MKL_DEBUG_CPU_TYPE"}


def test_where_paddle_is_imported_already_no_variable_is_set(model_dir: Path) -> None:
    code = """
import paddle
environment = dict(os.environ)
from paddlex_seg import create_model
create_model(model_dir=sys.argv[1], device="cpu")
"""
    assert changed(code, str(model_dir))["variables"] == []
