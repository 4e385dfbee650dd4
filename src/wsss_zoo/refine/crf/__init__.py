"""The dense CRF's engines: numba on the CPU, torch operations on any device, pydensecrf as the reference."""
