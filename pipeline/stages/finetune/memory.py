"""Memory of the C library, as a training on a CPU is best served by it.

By itself glibc gives a large block back to the system the moment that it is freed, and each step
of a training asks for the same blocks again, whose pages the system then clears anew. That takes
time, most of all where a head guesses words. But a process that never gave anything back would
grow: each step finds its blocks in other places, between those that stay. See mallopt(3) and
malloc_trim(3) of the Linux manual. Where the C library is another, all of this does nothing.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LIBRARY = ctypes.CDLL(None)
THERE = hasattr(LIBRARY, "mallopt") and hasattr(LIBRARY, "malloc_trim")


def keep() -> None:
    """From here on this process keeps the memory that it frees."""
    if THERE:
        LIBRARY.mallopt(M_MMAP_MAX, 0)  # every block comes from the heap
        LIBRARY.mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks


def give_back() -> None:
    """Give to the system what is free now."""
    if THERE:
        LIBRARY.malloc_trim(0)
