"""Settings to a pipeline: the only folder that knows every part."""
