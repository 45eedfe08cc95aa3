"""One live group, acted on: how connections are shared and how they move."""
