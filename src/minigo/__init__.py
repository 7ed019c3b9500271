"""minigo: a small Go engine that really is AlphaGo and AlphaZero; holds the version alone.

Importing it loads no torch: the modules below are imported by those who need them.
"""

__version__ = "0.1.0"
