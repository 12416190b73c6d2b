"""Its being there says that the host is of Forge's family."""
