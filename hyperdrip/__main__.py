"""`python -m hyperdrip`."""

from hyperdrip.cli import main

if __name__ == "__main__":
    main()
