"""`python -m fraisier` is the `fraisier` command."""

from fraisier.cli.main import main

if __name__ == "__main__":
    main()
