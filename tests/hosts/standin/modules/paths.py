"""Where the host keeps its things; the fixture sets `data_path`."""
data_path = script_path = models_path = extensions_dir = "."
