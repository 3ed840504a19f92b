"""`python -m mailerd` and the command `mailerd`."""

from mailerd.cli import main

if __name__ == "__main__":
    main()
