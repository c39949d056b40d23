"""`python -m services.cli`: the same as `reconcal`."""

from services.cli import main

main(prog_name="reconcal")
