"""The release of nomx, told to clients by the daemon and to people by the command line."""

VERSION = "0.1.0"
