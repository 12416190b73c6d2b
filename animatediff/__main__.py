"""`python -m animatediff` is the command line."""
from animatediff.engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
