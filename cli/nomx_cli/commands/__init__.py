"""One file an object or verb of the command line, imported only when it is named."""
