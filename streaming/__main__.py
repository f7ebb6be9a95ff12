"""`python -m streaming` is the command `streaming`."""

from streaming.cli import main

main()
