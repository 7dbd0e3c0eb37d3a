"""Synthesisable hardware of spikeloop, written in Amaranth."""
