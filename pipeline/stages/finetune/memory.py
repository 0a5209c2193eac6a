"""Settings of the C library's allocator for training on a CPU.

By default glibc returns a large block to the system as soon as it is freed. Each training step then
requests the same blocks again, and the system has to clear their pages, which takes time,
especially with a head over a whole vocabulary. A process that never returned memory would grow
through fragmentation, so free memory is returned at intervals. See mallopt(3) and malloc_trim(3) of
the Linux manual. With other C libraries these functions do nothing.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LIBRARY = ctypes.CDLL(None)
SUPPORTED = hasattr(LIBRARY, "mallopt") and hasattr(LIBRARY, "malloc_trim")


def keep() -> None:
    """Keep freed memory in this process from now on."""
    if SUPPORTED:
        LIBRARY.mallopt(M_MMAP_MAX, 0)  # every block comes from the heap
        LIBRARY.mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks


def trim() -> None:
    """Return free memory to the system."""
    if SUPPORTED:
        LIBRARY.malloc_trim(0)
