"""One thread per process: the tests' tensors are small, and threads would wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
