"""Concept erasure for ComfyUI. Put this folder into ComfyUI/custom_nodes and install snce in ComfyUI's Python."""

try:
    from snce.integrations.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, register_folder
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "snce":
        raise
    raise ImportError("snce is not installed in ComfyUI's Python: run `python -m pip install snce` with it") from error

register_folder()

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
