"""The environment that programs run in: devices, processes, compilation, host memory."""
