"""The ways from an array to the rounding loops, all to the bits that `FloatFormat.round` defines.

layout      any strides, channels and blocks on the CPU: the general path
dense       float32 without gaps, in one call: the fast path
integer     other devices, by torch's integer operations
"""
