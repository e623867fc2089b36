"""Download settings from the environment: the cache folder, the proxies and the source of exported models."""

import os
from pathlib import Path
from urllib.request import getproxies

from paddlex_seg.files.download import Network
from paddlex_seg.runtime.environment import spare_home


def network() -> Network:
    """The settings of this machine. Weights are cached in ``$XDG_CACHE_HOME/paddlex_seg/weights``, exported
    models beside it in ``models``; XDG_CACHE_HOME is ~/.cache unless set. PADDLEX_SEG_MODEL_SOURCE is the
    address of a folder with the archives of exported models, in place of the official one. A user without a
    home has a temporary one.
    """
    home = Path(os.path.expanduser("~"))  # stays ~ for a user without a home
    if not home.is_absolute():
        home = spare_home() or home
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Network(
        cache_dir=cache / "paddlex_seg" / "weights",
        proxies=getproxies(),
        model_source=os.environ.get("PADDLEX_SEG_MODEL_SOURCE") or None,
    )
