"""eBPF instructions as values: made, assembled and read back, without a system call."""
