"""Its being there says that the host is Forge or Forge Neo."""
