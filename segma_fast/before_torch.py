"""What commands need before torch is loaded: idle threads that sleep, and a Ctrl-C that ends the process quietly.

Spinning threads slow a busy machine. ``segma-fast bench`` times calls and leaves torch's own rule. Programs that import
the package keep both as they are.
"""

import os
import signal
import sys
import threading
from pathlib import Path

_command = sys.argv[:1] == ["-m"] or Path(sys.argv[0] if sys.argv else "").stem == "segma-fast"
_quiet = False
if _command and sys.argv[1:2] != ["bench"]:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if _command and threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _quiet = True  # imports take seconds; an exception in the middle of one is a traceback of torch's
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def imports_are_done() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt again, if it was this module that changed it."""
    if _quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
