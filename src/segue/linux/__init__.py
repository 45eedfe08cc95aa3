"""One kernel facility a file; the only home of ctypes, ioctl and kernel constants."""
