"""What is measured: each module knows one situation, takes a round of it, and makes figures of the rounds."""
