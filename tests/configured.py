"""A server started by Tiled's own command from our ready configuration."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[1] / "examples" / "tiled-config.yml"
KEY = "sesame123"


@contextlib.contextmanager
def tiled_serve_config(folder, *arguments, config=CONFIG):
    """Run `tiled serve config` in a folder; yield its address and the lines that it prints."""
    command = [sys.executable, "-m", "tiled", "serve", "config", str(config), "--port", "0", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines, rest = [], None
    with process:
        try:
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"Uvicorn running on (http://\S+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            rest = threading.Thread(target=lambda: lines.extend(process.stdout))
            rest.start()
            yield found[1], lines
        finally:
            process.terminate()
            process.wait(30)
            if rest is not None:
                rest.join()
