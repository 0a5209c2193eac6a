"""The trained weights as ONNX files, in fp32 and quantized to int8."""
