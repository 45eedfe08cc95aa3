"""Other kernels: Debian's, fetched and booted in QEMU, with what Segue does there in one table."""
