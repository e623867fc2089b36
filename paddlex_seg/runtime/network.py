"""Download settings from the environment: the cache folder of weights, and the proxies."""

import os
from pathlib import Path
from urllib.request import getproxies

from paddlex_seg.files.download import Network


def network() -> Network:
    """The settings of this machine. Weights are cached in ``$XDG_CACHE_HOME/paddlex_seg/weights``;
    XDG_CACHE_HOME is ~/.cache unless set.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Network(cache_dir=cache / "paddlex_seg" / "weights", proxies=getproxies())
