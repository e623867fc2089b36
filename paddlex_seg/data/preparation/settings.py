"""Settings of data set preparation. Names are the same as in the configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.errors import ConfigError
from paddlex_seg.structures import Bands

_DEFAULT_PERCENTS = {"train": 80, "val": 20}  # if a converted data set has no split


@dataclass(frozen=True)
class ConvertSettings:
    """Conversion from and to other annotation formats; see the section ``CheckDataset.convert``."""

    enable: bool = False
    src_dataset_type: str | None = None
    dst_dataset_type: str = "COCO"
    dst_dir: str | None = None


@dataclass(frozen=True)
class SplitSettings:
    """A new split into train, val and test, or into folds; see the section ``CheckDataset.split``."""

    enable: bool = False
    train_percent: int | None = None
    val_percent: int | None = None
    test_percent: int | None = None
    folds: int | None = None
    seed: int = 0
    group_by: str | None = None
    bands_of: Callable[[Path], Bands | None] = lambda root: None  # how images of a data set are read

    def require_valid(self) -> None:
        """Raises ConfigError when a split is enabled and its percents or folds are invalid."""
        if self.enable:
            self._given_percents()

    def percents(self) -> dict[str, int]:
        """The percent of each part; the default for a conversion if no split by percents is enabled."""
        return self._given_percents() if self.enable and not self.folds else _DEFAULT_PERCENTS

    def _given_percents(self) -> dict[str, int]:
        given = {"train": self.train_percent, "val": self.val_percent, "test": self.test_percent}
        if self.folds:
            if any(value is not None for value in given.values()):
                raise ConfigError(
                    "CheckDataset.split: folds and percents cannot be used together. Set one of them to null."
                )
            return {}
        percents = {name: value or 0 for name, value in given.items()}
        if sum(percents.values()) != 100 or not percents["train"] or not percents["val"]:
            found = ", ".join(f"{name}_percent {value}" for name, value in given.items())
            raise ConfigError(
                f"CheckDataset.split: {found}. Expected whole numbers that sum to 100, with train and val "
                "above 0."
            )
        return {name: value for name, value in percents.items() if value}
