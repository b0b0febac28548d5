"""Reading .tflite files."""
