"""What one interface does with a frame: takes it apart, answers it in place or says why not; and the loop around it."""
