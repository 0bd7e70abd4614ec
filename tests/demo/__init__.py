"""The demo's clusters, its tour and its commands."""
