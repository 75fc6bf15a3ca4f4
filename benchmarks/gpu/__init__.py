"""What one GPU does, beside what it could do and beside transformers: `python -m benchmarks.gpu --help`.

All models have random weights in the shapes of known ones, so nothing is downloaded: how long a step takes does not depend on what
the weights are. Every answer has a fixed length and no end, so both sides write equally many tokens.
"""
