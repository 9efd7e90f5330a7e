"""Lets torch's idle threads sleep in the commands, before torch is loaded: spinning ones slow a busy machine.

``segma-fast bench`` times calls and leaves torch's own rule, as do programs that import the package.
"""

import os
import sys
from pathlib import Path

_command = sys.argv[:1] == ["-m"] or Path(sys.argv[0] if sys.argv else "").stem == "segma-fast"
if _command and sys.argv[1:2] != ["bench"]:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
