"""Models of transformers from folders under ComfyUI's models folder and from the hub's cache, in ComfyUI's memory
management."""
