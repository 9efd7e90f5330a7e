"""``python tests/train_only.py FLAGS`` trains as ``segma-fast train FLAGS`` does, without pictures and report."""

import sys

from segma_fast.train_command import parse
from segma_fast.training import train

command = parse(sys.argv[1:])
train(command.config, resume=command.resume)
