"""`python -m bluestreak_cli`."""

from bluestreak_cli.main import main

if __name__ == "__main__":
    main()
