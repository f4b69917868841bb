"""``python -m bluesky_powder`` is ``bluesky-powder``."""

from bluesky_powder.cli import main

if __name__ == "__main__":
    main()
