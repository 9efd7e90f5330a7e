"""``python tests/train_only.py FLAGS`` trains as ``segma-fast train FLAGS`` does, without pictures and report."""

import sys

from segma_fast.trainer.commands.train import parse
from segma_fast.trainer.loop import train

command = parse(sys.argv[1:])
train(command.config, resume=command.resume)
