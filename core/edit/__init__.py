"""From a model and directions to an edited model or an edited picture."""
