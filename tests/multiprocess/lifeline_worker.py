"""Run on two ranks without a launcher: rank 1 does what its argument says, while rank 0 waits for it."""

import os
import signal
import sys
import time
from dataclasses import replace

from lockstep import run_script
from lockstep.errors import DataError
from lockstep.launch import limited, read_launch
from lockstep.launch.process_group import join_ranks

LIMIT_SECONDS = 3.0
what = sys.argv[1]


def main():
    launch = replace(read_launch(), wants_cpu=True)
    with join_ranks(launch, "no", LIMIT_SECONDS) as ranks:
        ranks.barrier()
        if not ranks.is_main:
            if what == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif what == "failed":
                raise DataError("a sample cannot be read")
            elif what == "stuck":
                ranks.lifeline.position = lambda: (6, "computing")
                with limited("between two steps"):
                    time.sleep(60)
        ranks.agree(False)


run_script(main)
