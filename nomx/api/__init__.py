"""Where control and data meet: versioned messages, leases and grants, the codec, the counters page."""
