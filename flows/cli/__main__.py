"""Entry point of `python -m flows.cli`, the same as `bertline`."""

import sys

from flows.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
