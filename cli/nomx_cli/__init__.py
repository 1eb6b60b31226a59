"""The command line, above everything: the only room that prints or exits. It asks `nomx.client` and nobody else."""
