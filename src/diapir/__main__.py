"""`python -m diapir`: the command line where the console script is not on the path."""

from diapir.cli import main

if __name__ == "__main__":
    main()
