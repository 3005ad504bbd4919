"""The only folder that touches ComfyUI's internals: models, patches, model management, paths, progress."""
