"""A user's own script that reports as the `lockstep` command does."""

import sys

import lockstep
from processes import QUICK


def main():
    lockstep.train(lockstep.parse_config([*QUICK, *sys.argv[1:]]))


if __name__ == "__main__":
    lockstep.run_script(main)
