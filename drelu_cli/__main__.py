"""`python -m drelu_cli`: the same as the command `drelu`."""

from drelu_cli.cli import main

if __name__ == "__main__":
    main()
