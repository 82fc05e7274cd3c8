"""For slurm/train.sbatch: copies a data folder to a node's local disk, once for each state of its source."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from filelock import FileLock

from lockstep.errors import refuse, require, short_message

FIELD = "LOCKSTEP_STAGE_DATA"


def stage_data(source: Path, disk: Path) -> Path:
    """A copy of a data folder, in a folder of this user's that nobody else can read or write.

    Its name is the digest of the source: the path, and the names, sizes and times of its files. So another
    source, or the same one after a change, never meets its files. Processes that copy the same wait for one.

    Args:
        source: the data folder.
        disk: a folder on the node's disk, which others may write to as well, such as /tmp.

    Raises:
        ConfigError: there is no such folder, its copy does not fit, or someone else made the folder for it.
    """
    require(source.is_dir(), FIELD, str(source), "is not a folder on this node; name one that all nodes see")
    files = listing(source)
    digest = hashlib.sha256(repr((str(source.resolve()), files)).encode()).hexdigest()[:16]
    own = own_folder(disk / f"lockstep-data-{os.getuid()}")
    target, scratch = own / digest, own / f".{digest}.partial"
    with FileLock(own / f".{digest}.lock"):
        if not target.exists() or listing(target) != files:  # something deletes old files of /tmp
            for old in (target, scratch):
                shutil.rmtree(old, ignore_errors=True)
            try:
                shutil.copytree(source, scratch)
            except OSError as error:  # shutil.Error is one, with all files that it could not copy
                shutil.rmtree(scratch, ignore_errors=True)
                rule = f"cannot be copied to {own} ({short_message(error)[:200]})"
                raise refuse(FIELD, str(source), f"{rule}; free space there, or leave it out") from error
            scratch.rename(target)
    return target


def own_folder(path: Path) -> Path:
    """Makes a folder that is this user's alone, or checks that it is one.

    Raises:
        ConfigError: it is someone else's, a link, or open to others.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise refuse(
            "TMPDIR", str(path.parent), f"cannot be written ({error.strerror}); set another"
        ) from error
    facts = path.lstat()
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    rule = f"{path} exists and is not a folder of yours alone (mode 700); delete it, or set another TMPDIR"
    require(is_own, "TMPDIR", str(path.parent), rule)
    return path


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """The files below a folder: path, size in bytes, time of the last change in seconds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    facts = ((path.relative_to(folder).as_posix(), path.stat()) for path in files)
    return sorted((name, each.st_size, int(each.st_mtime)) for name, each in facts)
