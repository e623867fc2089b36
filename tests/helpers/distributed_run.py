"""The command line, in a program that starts itself again as each rank: ``distributed_run.py NAME OPTIONS``.

In ranks, the scenario of that name takes the place of mode train.
"""

import sys

from paddlex_seg import cli
from paddlex_seg.runtime.environment import launched, prepare_process

if __name__ == "__main__":
    scenario = sys.argv.pop(1)  # not from sys.orig_argv, from which the ranks are started
    if launched() is not None:
        prepare_process()
        from rank_scenarios import install

        install(scenario)
    sys.exit(cli.main())
