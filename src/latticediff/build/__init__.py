"""From a card or a description to objects: kernels, networks, proposals, models, configurations, devices."""
