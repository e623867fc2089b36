"""The command line with a network of few channels and no export: ``slim_command.py [slowly] OPTIONS``."""

import sys

from paddlex_seg import cli
from paddlex_seg.runtime.environment import prepare_process

if __name__ == "__main__":
    slowly = sys.argv[1] == "slowly"
    if slowly:
        sys.argv.pop(1)
    prepare_process()
    from rank_scenarios import train_small

    train_small(slowly=slowly)
    sys.exit(cli.main())
