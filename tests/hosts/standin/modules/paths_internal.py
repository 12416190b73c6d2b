"""The same paths in a module that is safe to import early."""
from modules.paths import data_path, extensions_dir, models_path, script_path  # noqa: F401

default_output_dir = f"{data_path}/outputs"
