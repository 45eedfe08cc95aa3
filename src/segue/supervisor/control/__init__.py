"""How to reach an instance, and its output: files, control socket, clients, log, status."""
