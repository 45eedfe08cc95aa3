"""Which listener gets a connection: programs as specifications, without a system call."""
