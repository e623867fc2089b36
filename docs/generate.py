"""Writes the parts of the documentation that repeat what the code says: ``python docs/generate.py``."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from paddlex_seg.config.read import load_config
from paddlex_seg.config.schema import Config

DOCS = Path(__file__).parent
FIGURES = DOCS / "model_figures.json"
CONFIGS = DOCS.parent / "configs" / "modules" / "instance_segmentation"


def config_page() -> str:
    """docs/config.md: every key with its default and meaning."""
    lines = [
        "# Configuration keys",
        "",
        "Written by `python docs/generate.py` from `paddlex_seg/config/schema.py`; a test checks it.",
        "How options are typed is explained in [command_line.md](command_line.md).",
    ]
    for name, info in Config.model_fields.items():
        section = info.annotation
        assert isinstance(section, type) and issubclass(section, BaseModel)
        lines += ["", f"## {name}", "", "| key | default | meaning |", "|---|---|---|", *_rows(section, name)]
    return "\n".join(lines) + "\n"


def models_page() -> str:
    """docs/models.md: every model of the catalog with its configuration and figures."""
    from paddlex_seg.catalog import MODELS

    document = model_figures()
    lines = [
        "# Models",
        "",
        "Written by `python docs/generate.py` from `paddlex_seg/catalog.py`, `configs/` and",
        "`docs/model_figures.json`; a test holds them together.",
        "",
        "| model | configuration | parameters | input | mask AP | network ms | with masks ms | memory MB "
        "| official weights |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, spec in MODELS.items():
        load_config(str(CONFIGS / f"{name}.yaml"))  # it must exist and be valid
        count = sum(parameter.size for parameter in spec.build(num_classes=80).parameters())
        height, width = spec.recipe.image_size
        lines.append(
            f"| {name} | `{name}.yaml` | {count / 1e6:.2f} M | {height} x {width} | "
            f"{spec.published_mask_ap:.1f} | {_measured_cells(document['models'].get(name))} | "
            f"[COCO]({spec.official_weights}) |"
        )
    lines += [
        "",
        "Parameters are counted with COCO's 80 classes, running statistics of batch norms included.",
        "",
        "Mask AP is that of the official weights on COCO val2017 in percent, as PaddleX publishes it; it has",
        "not been measured here.",
        "",
        *_measurement_notes(document, list(MODELS)),
    ]
    return "\n".join(lines) + "\n"


def model_figures() -> dict[str, Any]:
    """What `benchmarks/forward.py --write` measured: the machine, the command, and figures per model."""
    if not FIGURES.is_file():
        return {"models": {}}
    return json.loads(FIGURES.read_text(encoding="utf-8"))


def _measured_cells(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "- | - | -"
    with_masks = f"{figures['latency_with_masks_ms']} ({figures['masks']})"
    return f"{figures['latency_ms']} | {with_masks} | {figures['peak_memory_mb']}"


def _measurement_notes(document: Mapping[str, Any], names: list[str]) -> list[str]:
    measured = [document["models"][name] for name in names if name in document["models"]]
    lines = []
    if measured:
        dates = ", ".join(sorted({figures["date"] for figures in measured}))
        lines += [
            "Milliseconds and peak memory of the process (10^6 bytes) are of one image on the CPU: of the",
            "network alone, then with as many masks as in brackets brought to the size of the image.",
            "Inputs are 640 x 640 or, where the table says 800 x 1333, 800 x 1067. Weights are drawn by",
            "rule, so that every model returns as many masks as it can. Most photographs have fewer: they",
            "come close to the network's time.",
            "",
            f"{document['machine']}; {dates}.",
            "",
            f"`{document['command']}`",
        ]
    if len(measured) < len(names):
        lines += [""] * bool(lines) + ["A dash: not measured yet."]
    return lines


_FINDINGS_MARKS = "<!-- findings: written by docs/generate.py -->\n", "<!-- end of findings -->\n"


def check_dataset_page() -> str:
    """docs/check_dataset.md: the page as it is, with every code of a finding between two marks."""
    from paddlex_seg.data.findings import KINDS

    before, rest = (DOCS / "check_dataset.md").read_text(encoding="utf-8").split(_FINDINGS_MARKS[0])
    after = rest.split(_FINDINGS_MARKS[1])[1]
    lines = ["| code | severity | what it means | what to do | repair |", "|---|---|---|---|---|"]
    lines += [
        f"| `{code}` | {kind.severity} | {kind.meaning} | {kind.hint} | {kind.repair or '-'} |"
        for code, kind in KINDS.items()
    ]
    return before + _FINDINGS_MARKS[0] + "\n".join(lines) + "\n" + _FINDINGS_MARKS[1] + after


PAGES = {"config.md": config_page, "models.md": models_page, "check_dataset.md": check_dataset_page}


def _rows(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in section.model_fields.items():
        key = f"{prefix}.{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _rows(info.annotation, key)
            continue
        default = (
            "required" if info.is_required() else f"`{'null' if info.default is None else info.default}`"
        )
        yield f"| `{key}` | {default} | {info.description} |"


if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write(), encoding="utf-8")
        print(f"wrote {DOCS / page}")
