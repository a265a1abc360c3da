"""What the dispatcher says about itself: log lines and metrics."""
