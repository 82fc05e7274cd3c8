"""The settings of a run folder, and of an artifact: opened here, and nowhere else. No torch.

Anyone may have made the folder. What it states about the computation is taken; where is written and uploaded,
and which code is imported, stays the user's own. Only of a start that this user has made is more taken:
`history/signature.py` says how it is known.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from lockstep.config import (
    Config,
    check_stated_code,
    close_to_imports,
    enclosing_run_folder,
    is_file,
    leaves,
    parse_config,
    plain_values,
    take_option,
)
from lockstep.errors import refuse
from lockstep.launch import process_rank
from lockstep.runs.folder.files import SETTINGS_FILE, which_run
from lockstep.runs.history.history import read_settings, read_starts
from lockstep.runs.history.signature import is_own

USERS_OWN = ("run", "data.root", "tracking")
"""Settings and sections that say where is written, downloaded to and uploaded to. `run` never comes from a
folder; the others do if this user has made its newest start."""
TO_SCORE = ("task.name", "model.name", "data.name", "loss.name")
"""The settings whose code an evaluation imports."""
TO_TRAIN = (*TO_SCORE, "optimizer.name", "schedule.name")
"""The settings whose code a training or a replay imports."""


def run_settings(
    folder: Path,
    flags: Sequence[str] = (),
    *,
    imports: Collection[str] = TO_SCORE,
    uses: Collection[str] = ("data.root",),
) -> Config:
    """The settings of the run in a folder, with the user's flags. A line on stderr says what is imported.

    Args:
        folder: the run folder; `run.dir` and `run.name` are where it is.
        flags: those of `lockstep train`, stated by the user.
        imports: the settings whose code the caller imports; the others are not looked at.
        uses: which of the user's own settings the caller uses: a line says what the folder has for them.

    Raises:
        ConfigError: it is no run folder, a setting is wrong, or the folder names code that is not imported.
    """
    if not is_file(folder / SETTINGS_FILE):
        raise refuse("RUN", str(folder), f"is not a run folder; {which_run(folder)}")
    path = folder if folder.name not in ("", "..") else folder.resolve()
    location = [f"--run.dir={path.parent}", f"--run.name={path.name}"]
    return stated_settings(folder, [*location, *flags], str(folder), imports=imports, uses=uses)


def read_config(flags: list[str]) -> Config:
    """The settings that flags state, also where `--config` names the settings of a run folder.

    Raises:
        ConfigError: as for `parse_config` and `run_settings`.
    """
    file, rest = take_option(flags, "--config")
    folder = Path(file).parent
    if Path(file).name == SETTINGS_FILE and enclosing_run_folder(folder) is not None:
        uses = [name for name in leaves(Config()) if name in USERS_OWN or name.partition(".")[0] in USERS_OWN]
        return stated_settings(folder, rest, str(folder), imports=TO_TRAIN, uses=uses)
    return parse_config(flags)


def stated_settings(
    folder: Path, flags: Sequence[str], whose: str, *, imports: Collection[str], uses: Collection[str]
) -> Config:
    """The settings in a folder that holds the settings and the starts of a run; see `run_settings`.

    Args:
        folder: which need not be a run folder.
        flags: in front of which the folder's settings are put.
        whose: the folder's name for messages.
        imports: as for `run_settings`.
        uses: as for `run_settings`.

    Raises:
        ConfigError: as for `run_settings`.
    """
    close_to_imports(folder)
    has_made_it = is_own(folder)
    without = ("run",) if has_made_it else USERS_OWN
    config = parse_config(["--config", str(folder / SETTINGS_FILE), *flags], without=without)
    words = {word.partition("=")[0] for word in flags}
    named = {name for name in leaves(config) if f"--{flag_of(name)}" in words}
    named |= {"task.name"} if "--task" in words else set()
    starts = read_starts(folder)
    sources = starts[-1].get("sources") if starts else None
    recorded = sources if isinstance(sources, dict) else {}
    lines = check_stated_code(config, imports, named, recorded, whose, is_own=has_made_it)
    lines += _not_taken(config, folder, [name for name in uses if name not in named], whose)
    for line in lines if process_rank() == 0 else ():
        print(f"lockstep: {line}", file=sys.stderr, flush=True)
    return config


def _not_taken(config: Config, folder: Path, names: Collection[str], whose: str) -> list[str]:
    """A line if a run folder has other values for what stays the user's own."""
    saved, now = read_settings(folder), plain_values(leaves(config))
    others = {}
    for name in names:
        section, _, leaf = name.partition(".")
        value = tree.get(leaf, now[name]) if isinstance(tree := saved.get(section), dict) else now[name]
        if value != now[name]:
            others[name] = value
    if not others:
        return []
    flags = shlex.join(word for name in others for word in (f"--{flag_of(name)}", str(others[name])))
    return [f"where to read, write and upload is up to you; to use what {whose} states: {flags}"]


def flag_of(name: str) -> str:
    """The name of a setting as in its flag."""
    return name.replace("_", "-")
