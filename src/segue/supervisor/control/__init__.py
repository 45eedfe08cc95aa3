"""How an instance is reached and what it says: files, control socket, clients, log, status."""
