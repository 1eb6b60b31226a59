"""Datagrams by socket: the kernel's own, for the path where the kernel does everything."""
