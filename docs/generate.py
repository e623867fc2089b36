"""Generates the documentation pages that repeat the code. Run ``python docs/generate.py``."""

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
    """docs/config.md: every configuration key with its default and meaning."""
    lines = [
        "# Configuration keys",
        "",
        "`python docs/generate.py` writes this page from `paddlex_seg/config/schema.py`; a test checks it.",
        "How to set a key on the command line: [command_line.md](command_line.md).",
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
        "`python docs/generate.py` writes this page from `paddlex_seg/catalog.py`, `configs/` and",
        "`docs/model_figures.json`; a test checks it.",
        "",
        "| model | configuration | parameters | input | mask AP | network ms | with masks ms | memory MB "
        "| official weights |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, spec in MODELS.items():
        load_config(str(CONFIGS / f"{name}.yaml"))  # raises if it is missing or invalid
        count = sum(parameter.size for parameter in spec.build(num_classes=80).parameters())
        height, width = spec.recipe.image_size
        lines.append(
            f"| {name} | `{name}.yaml` | {count / 1e6:.2f} M | {height} x {width} | "
            f"{spec.published_mask_ap:.1f} | {_measured_cells(document['models'].get(name))} | "
            f"[COCO]({spec.official_weights}) |"
        )
    lines += [
        "",
        "Parameters: number for the 80 COCO classes, including the running statistics of batch norms.",
        "",
        "Mask AP: percentage that PaddleX publishes for the official weights on COCO val2017. It was not",
        "measured here.",
        "",
        *_measurement_notes(document, list(MODELS)),
    ]
    return "\n".join(lines) + "\n"


def model_figures() -> dict[str, Any]:
    """The result of `benchmarks/forward.py --write`: machine, command and measurements per model."""
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
            "Latency in milliseconds and peak memory of the process in MB (10^6 bytes) were measured with",
            "one image on the CPU. `network ms` is the network alone. `with masks ms` also includes",
            "resizing the masks to the original image; the number of masks is in brackets. The network",
            "input was 640 x 640 or, where the table says 800 x 1333, 800 x 1067. The weights were",
            "generated so that every model returns its maximum number of masks. Most photographs have",
            "fewer objects, so their latency is close to `network ms`.",
            "",
            f"{document['machine']}; {dates}.",
            "",
            f"`{document['command']}`",
        ]
    if len(measured) < len(names):
        lines += [""] * bool(lines) + ["`-`: not measured yet."]
    return lines


_FINDINGS_MARKS = "<!-- findings: written by docs/generate.py -->\n", "<!-- end of findings -->\n"


def check_dataset_page() -> str:
    """docs/check_dataset.md: the existing page with the table of findings between the two marks replaced."""
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
