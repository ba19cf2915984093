"""The stages of a run, one a file: what each command of the command line does, callable from Python."""
