"""What several commands share: the options that name something, and the way they print."""
