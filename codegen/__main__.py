"""``python -m codegen`` is the command line."""

from codegen.cli import main

main()
