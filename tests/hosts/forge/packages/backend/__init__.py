"""An empty package whose presence marks the host as Forge or Forge Neo."""
