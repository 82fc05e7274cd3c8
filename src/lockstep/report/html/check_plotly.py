"""Whether the package that draws the HTML pages is installed."""

from __future__ import annotations

import importlib.util

from lockstep.errors import ConfigError


def check_plotly(option: str) -> None:
    """Checks that plotly is installed, which an option needs.

    Raises:
        ConfigError: it is not; says what to install.
    """
    if importlib.util.find_spec("plotly") is None:
        raise ConfigError(
            f"{option}: needs the package plotly; install it with: pip install lockstep-trainer[report]"
        )
