"""One of everything that can be plugged into latticediff; see docs/extending.md."""
