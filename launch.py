"""The front door: `python launch.py list`, `run`, `status`, `table`, `data`."""

import sys

from seqlab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
