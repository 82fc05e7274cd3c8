"""`lockstep train` as a script, for `accelerate launch`, `torchrun` and `srun`."""

import sys

from lockstep.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
