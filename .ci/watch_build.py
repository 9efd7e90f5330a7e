"""Run a command that builds the kernels: show a line for each file that is compiled, and all it says if it fails.

``python .ci/watch_build.py python -m pip install -v .``
"""

from __future__ import annotations

import re
import subprocess
import sys

COMPILED = re.compile(r"\s*(\[\d+/\d+\]) .* -c \S*?(csrc/\S+) -o ")  # a line of ninja's, when the file is done
OWN = re.compile(r"\s*segma_fast: ")

process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
assert process.stdout is not None
said = []
for line in process.stdout:
    said.append(line)
    compiled = COMPILED.match(line)
    if compiled is not None:
        print("  ", *compiled.groups(), flush=True)
    elif OWN.match(line):
        print("  ", line.strip(), flush=True)
if process.wait() != 0:
    print("".join(said))
sys.exit(process.returncode)
