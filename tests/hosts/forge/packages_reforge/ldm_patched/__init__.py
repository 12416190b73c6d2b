"""The part of reForge's package that a clip uses. Its presence without `backend` marks the host as reForge."""
