"""The fork server of forked.py: imports what a run needs, computes nothing, and forks for each request.

A fork takes over what a new process has, and then runs the program as Python runs a script or a module.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import forked

OTHERS = (
    *("accelerate.commands.accelerate_cli", "accelerate.commands.launch", "matplotlib.backends.backend_agg"),
    *("numpy.random", "torch.distributed.run", "torch.distributed.tensor", "torchvision", "typeguard"),
)
"""What runs and launchers import late."""
VARIABLES = dict(os.environ)
"""Those that this process was started with."""
exit_code: int | None = None
"""This fork's, once its program has ended in a way that has one."""
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
PR_SET_NAME = 15


def preload() -> None:
    """Imports all of Lockstep, and what it imports late; starts no thread, which a fork would lack."""
    import lockstep

    for module in pkgutil.walk_packages(lockstep.__path__, "lockstep."):
        if not module.name.endswith(("__main__", "run_exported")):
            importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    preload_albumentations()
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads"
    gc.collect()
    gc.freeze()


def preload_albumentations() -> None:
    """Imports what takes longest in tests that read data, and undoes the variables that its cv2 sets."""
    before = dict(os.environ)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version
    with suppress(ModuleNotFoundError):  # tests of GPUs need none
        importlib.import_module("albumentations")
    os.environ.clear()
    os.environ.update(before)


def next_program(listener: socket.socket, alive: int) -> dict[str, Any]:
    """Serves until the file `alive` closes; returns in a fork, with the request that it has become."""
    while True:
        request, connection, files = serve(listener, alive)
        if request["leads_session"]:
            os.setsid()
        else:
            os.setpgid(0, request["group"])
        if request["is_launcher"]:
            address = f"{sys.argv[2]}.{os.getpid()}"
            listener = forked.listen(address)
            alive, _end = os.pipe()  # the end closes with this process
            server = os.fork()
            if server == 0:
                os.setpgid(0, 0)  # signals to the launcher's group are not for it
                os.close(_end)
                connection.close()
                for file in files:
                    os.close(file)
                continue
            os.close(alive)
            listener.close()
            forked.inherit(forked.Server(server, address, VARIABLES))
        become(request, files)
        connection.sendall(struct.pack("I", os.getpid()))
        connection.close()
        return request


def serve(listener: socket.socket, alive: int) -> tuple[dict[str, Any], socket.socket, list[int]]:
    """Forks for each request until the file `alive` closes; returns in a fork what it has received."""
    while True:
        ready, _, _ = select.select([listener, alive], [], [])
        if alive in ready:
            os._exit(0)
        connection, _ = listener.accept()
        length, files, _, _ = socket.recv_fds(connection, 4, 3)
        if len(length) == 4:
            body = connection.recv(struct.unpack("I", length)[0], socket.MSG_WAITALL)
            if fork_orphan():
                listener.close()
                os.close(alive)
                return json.loads(body), connection, files
        connection.close()
        for file in files:
            os.close(file)


def fork_orphan() -> bool:
    """Forks twice and waits for the first fork, so that the second gets a new parent; True in the second."""
    orphaned, end = os.pipe()
    first = os.fork()
    if first == 0:
        if os.fork() != 0:
            os._exit(0)
        os.close(end)
        os.read(orphaned, 1)
        os.close(orphaned)
        return True
    os.waitpid(first, 0)
    os.close(orphaned)
    os.close(end)
    return False


def become(request: dict[str, Any], files: list[int]) -> None:
    """Gives this fork the files, signals, folder, variables and path of a new process."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        is_ignored = number in request["ignored"] or number in IGNORED_BY_PYTHON
        is_interrupt = number == signal.SIGINT and not is_ignored
        default = signal.default_int_handler if is_interrupt else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if is_ignored else default)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])
    os.chdir(request["folder"])
    path, before = (forked.path_of(each) for each in (request["variables"], VARIABLES))
    imported = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    os.environ.clear()
    os.environ.update(imported | request["variables"])  # torch sets some when it is imported
    sys.path[:] = [*path, *(place for place in sys.path[1:] if place not in before)]
    sys.argv = request["argv"]
    sys.orig_argv = request["shown"]
    tempfile.tempdir = None
    importlib.import_module("numpy.random").seed()  # a fork of random seeds itself
    show(request["shown"], request["short_name"])
    open_streams(request["is_unbuffered"])


def open_streams(is_unbuffered: bool) -> None:
    """sys.stdin, sys.stdout and sys.stderr as Python opens them."""
    is_unbuffered |= sys.stderr.write_through  # PYTHONUNBUFFERED
    for number, (name, mode) in enumerate((("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))):
        before = getattr(sys, name)
        stream = io.TextIOWrapper(
            open(number, mode, buffering=0 if is_unbuffered and number else -1, closefd=False),  # noqa: SIM115
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=not is_unbuffered and (number == 2 or os.isatty(number)),
            write_through=is_unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def show(words: list[str], name: str) -> None:
    """Makes the words this process's command line, and the name its short one, for `ps` and `pkill`."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    start, end = (
        int(fields[45]),
        int(fields[46]),
    )  # arg_start and arg_end, fields 48 and 49 of proc_pid_stat(5)
    line = b"\0".join(os.fsencode(word) for word in words)[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)
    ctypes.CDLL(None).prctl(PR_SET_NAME, os.fsencode(name)[:15], 0, 0, 0)


def run(request: dict[str, Any]) -> None:
    """Runs the program as `python SCRIPT`, `python -m MODULE` or `python -c CODE` does."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    is_safe = bool(os.environ.get("PYTHONSAFEPATH"))
    with leaving():
        if "module" in request:
            if not is_safe:
                sys.path.insert(0, os.getcwd())
            runpy._run_module_as_main(request["module"])  # type: ignore[attr-defined]
        elif "code" in request:
            sys.path.insert(0, "")
            exec(compile(request["code"], "<string>", "exec"), vars(main))
        else:
            path = os.path.abspath(request["script"])
            if not is_safe:
                sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
            main.__file__ = path
            exec(compile(Path(path).read_bytes(), path, "exec"), vars(main))


@contextmanager
def leaving() -> Iterator[None]:
    """Notes the exit code, so that `leave` can use it. Python itself reports what is raised."""
    global exit_code
    try:
        yield
        exit_code = 0
    except SystemExit as stop:
        exit_code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    except KeyboardInterrupt:
        exit_code = -signal.SIGINT
        raise
    except Exception:
        exit_code = 1
        raise


def leave() -> None:
    """Ends this process, the last thing to run at its end: to free all modules would take half a second.

    And triton, which torchvision imports, would complain of its own leaks.
    """
    if exit_code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        if exit_code == -signal.SIGINT:  # as Python ends after a KeyboardInterrupt
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(exit_code & 0xFF)


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the test session, with which this process ends
    atexit.register(leave)  # the first one registered is the last one to run
    preload()
    run(next_program(socket.socket(fileno=int(sys.argv[1])), 0))
