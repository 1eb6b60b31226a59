"""What an application imports, through `nomx` itself: handlers, the serve loop, frames, the grant."""
