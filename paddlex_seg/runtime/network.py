"""What the environment says of downloads: where weights are kept, and which proxies are asked."""

import os
from pathlib import Path
from urllib.request import getproxies

from paddlex_seg.files.download import Network


def network() -> Network:
    """The settings of this machine. Weights are kept in ``$XDG_CACHE_HOME/paddlex_seg/weights``, where
    XDG_CACHE_HOME is ~/.cache unless set.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Network(cache_dir=cache / "paddlex_seg" / "weights", proxies=getproxies())


def expand_home(value: str) -> str:
    """A path with the home folder in the place of a leading ``~``; addresses stay as they are."""
    return os.path.expanduser(value)
