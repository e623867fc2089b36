"""Run the toolkit as a module: ``python -m paddlex_seg -c CONFIG [-o Key.sub=value ...]``."""

import sys

from paddlex_seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
