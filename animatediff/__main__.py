"""`python -m animatediff` is the command line."""
from animatediff.faces.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
