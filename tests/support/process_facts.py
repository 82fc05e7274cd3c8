"""A program that prints what it finds as a process, and then ends as its first argument says."""

import json
import os
import signal
import sys
import threading

streams = [sys.stdin, sys.stdout, sys.stderr]
facts = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "shown": open("/proc/self/cmdline").read().rstrip("\0"),  # noqa: SIM115
    "short": open("/proc/self/comm").read(),  # noqa: SIM115
    "main": [__name__, __file__, sys.modules["__main__"].__dict__ is globals()],
    "path": [place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))],
    "first": sys.path[0],
    **{f"variable {name}": value for name, value in os.environ.items()},
    "folder": os.getcwd(),
    "parent": os.getppid(),
    "group": "own" if os.getpgid(0) == os.getpid() else os.getpgid(0),
    "session": "own" if os.getsid(0) == os.getpid() else os.getsid(0),
    "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "files": sorted(os.listdir("/proc/self/fd"))[:4],  # the fourth is that of the list itself
    "threads": threading.active_count(),
    "streams": [
        (each.fileno(), each.encoding, each.errors, each.line_buffering, each.write_through, each.isatty())
        for each in streams
    ],
    "read": sys.stdin.read(),
}
if __name__ == "__main__":
    print(json.dumps(facts), flush=True)
    way = sys.argv[1]
    if way == "raise":
        raise ValueError("as it was told")
    if way == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if way == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(int(way) if way.isdigit() else way)
