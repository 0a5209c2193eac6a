"""bertline's line: from labelled text to a registered, quantized model, one stage a file."""
