"""Who starts the workers, restarts them and keeps their listeners."""
