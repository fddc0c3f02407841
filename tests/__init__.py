"""Tests: unit/, integration/ (real servers), faults/, lab/ (the servers), benchmarks/."""
