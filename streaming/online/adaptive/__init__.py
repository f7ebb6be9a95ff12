"""Linear models by adaptive gradient steps."""
