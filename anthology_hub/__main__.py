"""`python -m anthology_hub`."""

from anthology_hub.cli import main

main()
