"""The UMEM, its frames and the four rings of an AF_XDP socket, and the atomics and system calls that they need."""
