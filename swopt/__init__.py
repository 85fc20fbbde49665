"""The software: workloads, compression, and the integer model the accelerator computes."""
