"""The processes of an instance: their start, readiness and connections."""
