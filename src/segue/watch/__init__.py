"""The screen of ``segue watch``: instances as they are, and what happens to them; an extra."""
