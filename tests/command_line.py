"""The command line, called as its users do, in this process."""

import sys
from dataclasses import dataclass

from bluesky_powder import cli


@dataclass(frozen=True)
class Outcome:
    """What a command has left behind."""

    code: int
    out: str
    err: str

    @property
    def said_in_one_line(self):
        """Return the error, after making sure that it is one line."""
        assert self.code == 1, self
        assert self.err.startswith("bluesky-powder: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("bluesky-powder: ").strip()


def run_command(monkeypatch, capsys, *arguments):
    """Run ``bluesky-powder ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["bluesky-powder", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    capsys.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    told = capsys.readouterr()
    return Outcome(code, told.out, told.err)
