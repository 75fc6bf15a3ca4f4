"""`make parity`: our losses and gradients beside TRL's on the same tensors, in a table; exit code 1 if one differs.

Every comparison runs on several random cases. It holds if, on each, the losses differ by at most 1e-5 (of TRL's loss where that is
above 1) and the gradients by at most 1e-5 of the largest one. The controls are wrong on purpose and must all be found.

    python -m parity [--only PART OF A NAME]
"""

import sys

from parity.compare import main

if __name__ == "__main__":
    sys.exit(main())
