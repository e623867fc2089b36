"""Download settings from the environment: the cache folder, the proxies and the source of exported models."""

import os
from pathlib import Path
from urllib.request import getproxies

from paddlex_seg.files.download import Network


def network() -> Network:
    """The settings of this machine. Weights are cached in ``$XDG_CACHE_HOME/paddlex_seg/weights``, exported
    models beside it in ``models``; XDG_CACHE_HOME is ~/.cache unless set. PADDLEX_SEG_MODEL_SOURCE is the
    address of a folder with the archives of exported models, in place of the official one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Network(
        cache_dir=cache / "paddlex_seg" / "weights",
        proxies=getproxies(),
        model_source=os.environ.get("PADDLEX_SEG_MODEL_SOURCE") or None,
    )
