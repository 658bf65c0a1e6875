"""Published networks: one file each."""
