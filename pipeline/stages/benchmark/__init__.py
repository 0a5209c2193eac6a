"""Measurement of the runtime candidates on this machine, and choice of the one that serves."""
