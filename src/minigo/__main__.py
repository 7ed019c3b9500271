"""`python -m minigo`: the command line, and nothing else."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
