"""What the papers say, as pure functions on tensors: no model, no optimizer, no configuration object. Imports torch only."""
