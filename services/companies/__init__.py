"""The register of tenants: who they are, what proves that a message is theirs, and whom to tell."""
