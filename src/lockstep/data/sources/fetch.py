"""Fetches the files of a data set: under a lock, into a scratch folder, each published only when complete."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from filelock import FileLock

from lockstep.config import DataConfig, is_file
from lockstep.data.sources.idx_source import FileSource
from lockstep.errors import ConfigError
from lockstep.launch import unlimited


def fetch_files(source: FileSource, config: DataConfig) -> str:
    """Makes sure that all files of a data set are in `config.root`, and says where they came from.

    Any number of processes on any number of nodes may call this at the same time for one shared folder. One
    fetches, under a lock that the kernel releases if it dies; the others wait and then find the files.

    Raises:
        ConfigError: the files could not be fetched. Says which files to put where.
    """
    root = Path(config.root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with unlimited(), FileLock(root / ".fetch.lock"):
            return _fetch_locked(source, config)
    except OSError as error:
        raise ConfigError(
            f"data.root = {config.root!r}: cannot be written ({error}); name another folder"
        ) from error


def _fetch_locked(source: FileSource, config: DataConfig) -> str:
    root = Path(config.root)
    if not source.missing_files(root):
        return "files"  # another process fetched them while this one waited
    folder = root / source.folder
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(".fetch-*"):  # from a fetch that was killed, as this one has the lock
        shutil.rmtree(leftover)
    unpack_files(source, root)
    if not source.missing_files(root):
        return "files"
    for origin, fetch in source.fetchers.items():
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
        try:
            _say(f"fetching {config.name} from {origin} …")
            fetch(scratch, config.fetch_timeout_seconds)
            for path in source.missing_files(root):
                _publish(source, scratch / path.name, path)
            return origin
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            _say(f"{origin}: {_reason(error)}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    missing = ", ".join(path.name for path in source.missing_files(root))
    raise ConfigError(
        f"data.root = {config.root!r}: {config.name} is not there and could not be fetched; "
        f"put {missing} into {folder.resolve()}"
    )


def unpack_files(source: FileSource, root: Path) -> None:
    """Unpacks what is missing and lies there as .gz, as the sets' own sites offer it; says what is bad."""
    for path in source.missing_files(root):
        packed = path.with_name(f"{path.name}.gz")
        if not is_file(packed):
            continue
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=path.parent.parent))
        try:
            with gzip.open(packed) as content, (scratch / path.name).open("wb") as file:
                shutil.copyfileobj(content, file)
            _publish(source, scratch / path.name, path)
        except (OSError, EOFError, zlib.error, ConfigError) as error:
            _say(f"{packed} cannot be used: {error}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _publish(source: FileSource, scratch_file: Path, target: Path) -> None:
    """Moves a complete, verified, synced file to where it belongs in one atomic step."""
    source.check_content(target, scratch_file)
    with scratch_file.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch_file, target)


def _say(message: str) -> None:
    print(f"lockstep: {message}", file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    """The error in one line. Of what a failed command printed, the last line says most."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s (data.fetch_timeout_seconds)"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return error.stderr.strip().splitlines()[-1]
    return str(error)
