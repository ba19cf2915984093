"""`python -m latticediff` is the command `latticediff`."""

from .cli import main

if __name__ == "__main__":
    main()
