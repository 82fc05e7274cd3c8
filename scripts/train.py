"""`lockstep train` as a script, for `accelerate launch`, `torchrun` and `srun`."""

import sys

from lockstep.commands.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
