"""What was found in Linux (docs/LINUX.md): each is seen by running one file, as root."""
