"""The AUTOMATIC1111 WebUI as host. Everything that imports its `modules` package is in here."""
