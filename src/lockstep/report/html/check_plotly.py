"""Whether the package that draws the HTML pages is installed."""

from __future__ import annotations

import importlib.util

from lockstep.errors import ConfigError

INSTALL_PLOTLY = "pip install lockstep-trainer[report]"
"""What installs it."""


def has_plotly() -> bool:
    """Whether plotly is installed."""
    return importlib.util.find_spec("plotly") is not None


def check_plotly(option: str) -> None:
    """Checks that plotly is installed, which an option needs.

    Raises:
        ConfigError: it is not; says what to install.
    """
    if not has_plotly():
        raise ConfigError(f"{option}: needs the package plotly; install it with: {INSTALL_PLOTLY}")
