"""What is on the wire, as bytes and as values, without a system call."""
