"""A page on this computer: drop a photo, move the box, see what the network sees."""
