"""What `python -m pyns` does: the same as the command `pyns`."""

from pyns.cli import script

if __name__ == "__main__":
    script()
