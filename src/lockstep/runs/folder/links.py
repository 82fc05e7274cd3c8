"""Symbolic links in a run folder: what Lockstep writes stays inside the folder. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from lockstep.errors import refuse


def check_links(folder: Path) -> None:
    """Checks, before anything is written into a run folder, that no link in it leads out of it.

    A folder may come from someone else, and a link in it would decide which file outside is overwritten. The
    folder itself may be a link: that is made by whoever names it.

    Raises:
        ConfigError: there is such a link; it names the link and its target.
    """
    inside = folder.resolve()
    for parent, folders, files in os.walk(inside):  # does not follow links
        if Path(parent).match("wandb/*/logs"):
            continue  # where wandb itself links its log in the home folder; no later start writes there
        for name in (*folders, *files):
            path = Path(parent, name)
            target = Path(os.path.realpath(path))  # Path.resolve raises at a link to itself
            if path.is_symlink() and not target.is_relative_to(inside):
                rule = (
                    f"leads to {str(target)!r}, and a run writes only inside its folder; remove the "
                    "link; to keep runs on another disk, set run.dir, or link the whole run folder"
                )
                raise refuse("link", str(folder / path.relative_to(inside)), rule)
