"""`python -m posttrain.cli` is `posttrain`."""

from posttrain.cli.main import main

main()
