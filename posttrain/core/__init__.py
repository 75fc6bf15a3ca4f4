"""Words of the field as types, the narrow protocols between parts, settings, errors. Standard library only."""
