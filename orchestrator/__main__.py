"""`python -m orchestrator`: the command line where `wsss-orch` is not installed, as on a cluster that is sent the code."""

from orchestrator.cli import main

main()
