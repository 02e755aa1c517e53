"""`python -m voltstream`: the same as the command `voltstream`."""

from voltstream.cli import main

if __name__ == "__main__":
    main()
