"""Devices, processes, compilation and host memory: what a program runs on."""
