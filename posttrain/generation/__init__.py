"""Writers of completions, all behind core.protocols.Generator: the native engine, in the trainer's own process."""
