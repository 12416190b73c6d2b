"""The host's folders. The fixture sets `data_path`."""
data_path = script_path = models_path = extensions_dir = "."
