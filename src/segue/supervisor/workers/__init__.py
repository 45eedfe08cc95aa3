"""The processes of an instance: how they start, when they are ready, what they hold."""
