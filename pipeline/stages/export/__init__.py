"""Export of the trained model to ONNX files, in fp32 and quantized to int8."""
