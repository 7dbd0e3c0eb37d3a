"""Parts of the study by themselves: ``python -m host.reproduce.bisnn --parts moons,digits``."""

from host.reproduce.bisnn import PARTS, run
from host.reproduce.parts import main

if __name__ == "__main__":
    main("host.reproduce.bisnn", __doc__, PARTS, run)
