"""One function per command. Every room meets here; nothing is printed, no tensor is touched."""
