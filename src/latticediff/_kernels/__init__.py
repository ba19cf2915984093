"""Compiled kernels: arrays in, arrays out, no classes. Private; importing it imports Numba."""
