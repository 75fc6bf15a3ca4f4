"""A web shop on loopback that a model visits with five tools, over plain HTTP or in Chromium."""
