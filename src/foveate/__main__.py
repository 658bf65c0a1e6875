"""`python -m foveate`: the command line, as the script `foveate` runs it."""

from foveate.cli import main

if __name__ == "__main__":
    main()
