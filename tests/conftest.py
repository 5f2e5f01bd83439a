"""What every test process starts with: one thread, and the usual meaning of control-C."""

from __future__ import annotations

import os
import signal

# The tests' tensors are small, and threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore control-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
