"""Formal proofs of the chip's blocks: ``python -m testbench.formal`` runs them (docs/formal.md lists them).

The blocks under proof are the classes of ``rtl/``; claims about them are written in Amaranth (:mod:`.bench`), turned
into formulas by Yosys and decided by Z3 (:mod:`.solve`), all from Python packages.
"""
