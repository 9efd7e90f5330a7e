"""What commands need before torch is loaded: idle threads that sleep, and a Ctrl-C that ends the process quietly.

Threads that spin slow a busy machine, and threads that sleep at once take long to wake: on a quiet one a training step
of small networks took twice as long. GNU's OpenMP can do both, one after the other; others let them sleep.
``segma-fast bench`` times calls and leaves torch's own rule. Programs that import the package keep all as it is.
"""

import os
import signal
import sys
import threading
from pathlib import Path

_command = sys.argv[:1] == ["-m"] or Path(sys.argv[0] if sys.argv else "").stem == "segma-fast"
_quiet = False
_rules = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
if _command and sys.argv[1:2] != ["bench"] and not _rules.keys() & os.environ.keys():
    os.environ |= _rules
if _command and threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _quiet = True  # imports take seconds; an exception in the middle of one is a traceback of torch's
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def imports_are_done() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt again, if it was this module that changed it."""
    if _quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
