"""Simulation of the chip: toolchain, build cache, the in-the-loop simulator process and the cocotb verification bench.

Nothing is imported here, so that ``testbench.simulator`` stays quick to load and the cocotb child process loads only
what it needs.
"""
