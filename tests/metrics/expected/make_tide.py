"""Writes tide.json: what hotcoco 1.3.0 says about the problems of `eval_problems`. Run beside hotcoco:

PYTHONPATH=tests/helpers python tests/metrics/expected/make_tide.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import hotcoco
from eval_problems import make_problem

PLAIN = [{"seed": seed, "num_images": 4 + seed % 5, "num_classes": 1 + seed % 4} for seed in range(21)]
CLASS_IS_MISSED = [PLAIN.pop(11)]
TIES = [{"seed": seed, "ties": True} for seed in range(20, 24)]
CROWDS = [{"seed": seed, "crowds": True} for seed in range(100, 104)]


def errors_of(document: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        truth, found = Path(folder, "truth.json"), Path(folder, "found.json")
        truth.write_text(json.dumps(document))
        found.write_text(json.dumps(rows))
        coco = hotcoco.COCO(str(truth))
        evaluation = hotcoco.COCOeval(coco, coco.load_res(str(found)), "segm")
        evaluation.evaluate()
        errors = evaluation.tide_errors(0.5, 0.1)
    return {key: errors[key] for key in ("ap_base", "delta_ap", "counts")}


if __name__ == "__main__":
    expected = {
        "made_by": f"hotcoco {hotcoco.__version__}, tests/metrics/expected/make_tide.py",
        "problems": [{"options": options, **errors_of(*make_problem(**options))} for options in PLAIN + TIES],
        "class_is_missed": [
            {"options": options, **errors_of(*make_problem(**options))} for options in CLASS_IS_MISSED
        ],
        "with_crowds": [{"options": options, **errors_of(*make_problem(**options))} for options in CROWDS],
    }
    text = json.dumps(expected).replace('{"options"', '\n{"options"').replace('], "', '],\n"')
    Path(__file__).with_name("tide.json").write_text(text + "\n")
