"""Pipeline of bertline: from labelled text to a registered, quantized model."""
