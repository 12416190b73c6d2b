"""An empty package whose presence marks the host as one of Forge's family."""
