"""Run the toolkit from a checkout: ``python main.py -c CONFIG [-o Key.sub=value ...]``."""

import sys

from paddlex_seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
