"""What `accelerate launch`, `torchrun` and `srun` are given: `lockstep train` as a script."""

import sys

from lockstep.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
