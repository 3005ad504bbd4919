"""Train: small networks fitted beside a frozen model."""
