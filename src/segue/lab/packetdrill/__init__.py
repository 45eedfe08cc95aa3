"""Scripts in packetdrill's language, told to Linux and to the model."""
