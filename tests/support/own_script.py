"""A user's own script: trains the quick run with the flags that it gets."""

import sys

import lockstep
from processes import QUICK

result = lockstep.train(lockstep.parse_config([*QUICK, *sys.argv[1:]]))
print(result.summary["steps"], "steps")
