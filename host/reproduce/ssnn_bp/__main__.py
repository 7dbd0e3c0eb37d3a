"""Parts of the study by themselves: ``python -m host.reproduce.ssnn_bp --parts steps,bits``."""

from host.reproduce.parts import main
from host.reproduce.ssnn_bp import PARTS, run

if __name__ == "__main__":
    main("host.reproduce.ssnn_bp", __doc__, PARTS, run)
