"""Settings of Tiled's own pages, with our view of a derived run among them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VARIABLE = "TILED_UI_SETTINGS"
VIEW = {"spec": "PowderRun", "url": "/custom/powder/static/spec_view.js"}


def with_view(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of Tiled's pages with our view of a derived run, unless they name one already."""
    views = list(settings.get("spec_views") or ())
    if any(view.get("spec") == VIEW["spec"] for view in views):
        return settings
    return {**settings, "spec_views": [*views, VIEW]}


@contextlib.contextmanager
def ui_settings(file: Path) -> Iterator[None]:
    """Let Tiled read settings with our view while an app is built; it reads them then and never again.

    Parameters
    ----------
    file
        Where to write them. They begin with what the environment names, or with Tiled's own: a settings file
        replaces those, and its pages cannot do without.
    """
    before = os.environ.get(VARIABLE)
    source = _source(before)
    if source is None:
        yield
        return
    settings = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    file.write_text(yaml.safe_dump(with_view(settings), sort_keys=False), encoding="utf-8")
    os.environ[VARIABLE] = str(file)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _source(named: str | None) -> Path | None:
    """Return the settings to begin with; None where there are none, or (named "") something else serves them."""
    from tiled.utils import SHARE_TILED_PATH

    path = Path(SHARE_TILED_PATH, "static", "default_ui_settings.yml") if named is None else Path(named)
    return path if named != "" and path.is_file() else None
