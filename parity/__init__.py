"""The losses beside TRL's on the same tensors: `make parity` (docs/parity.md says what is compared and how)."""
