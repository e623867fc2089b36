"""Writes the parts of the documentation that repeat what the code says: ``python docs/generate.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from paddlex_seg.config import Config, load_config

DOCS = Path(__file__).parent
CONFIGS = DOCS.parent / "configs" / "modules" / "instance_segmentation"


def config_page() -> str:
    """docs/config.md: every key with its default and meaning."""
    lines = [
        "# Configuration keys",
        "",
        "Written by `python docs/generate.py` from `paddlex_seg/config.py`; a test holds the two together.",
        "How options are typed is explained in [command_line.md](command_line.md).",
    ]
    for name, info in Config.model_fields.items():
        section = info.annotation
        assert isinstance(section, type) and issubclass(section, BaseModel)
        lines += ["", f"## {name}", "", "| key | default | meaning |", "|---|---|---|", *_rows(section, name)]
    return "\n".join(lines) + "\n"


def models_page() -> str:
    """docs/models.md: every model of the catalog with what its shipped configuration says."""
    from paddlex_seg.catalog import MODELS

    lines = [
        "# Models",
        "",
        "Written by `python docs/generate.py` from `paddlex_seg/catalog.py` and `configs/`.",
        "",
        "| model | configuration | parameters | input | official weights |",
        "|---|---|---|---|---|",
    ]
    for name, spec in MODELS.items():
        load_config(str(CONFIGS / f"{name}.yaml"))  # it must exist and be valid
        count = sum(parameter.size for parameter in spec.build(num_classes=80).parameters())
        height, width = spec.recipe.image_size
        lines.append(
            f"| {name} | `{name}.yaml` | {count / 1e6:.2f} M | {height} x {width} | "
            f"[COCO]({spec.official_weights}) |"
        )
    lines += [
        "",
        "Parameters are counted with COCO's 80 classes, running statistics of batch norms included.",
    ]
    return "\n".join(lines) + "\n"


PAGES = {"config.md": config_page, "models.md": models_page}


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
