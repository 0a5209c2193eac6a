"""Pipeline of bertline: from labelled text to a registered, quantized model."""

import os

# PyTorch's threads wait for each other by spinning, which beside one busy program makes a training
# several times slower (bench/neighbours.py). libgomp reads this when PyTorch loads it
# (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
