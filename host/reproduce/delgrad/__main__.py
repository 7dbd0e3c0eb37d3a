"""Parts of the study by themselves: ``python -m host.reproduce.delgrad --parts size,noise``."""

from host.reproduce.delgrad import PARTS, run
from host.reproduce.parts import main

if __name__ == "__main__":
    main("host.reproduce.delgrad", __doc__, PARTS, run)
