"""`python -m voltstream`: the same as the command `voltstream`."""

from voltstream.cli.main import main

if __name__ == "__main__":
    main()
