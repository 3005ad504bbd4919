"""The maths of HSpace: tensors in, tensors out. Never imports ComfyUI."""
